//! France Travail: who looks for a job, and what is paid.

use super::Shape::{Integer, List, Number, Object, Text};
use super::{AttributeRow, DatasetRow, FilterForm, FilterRow, PersonFields, by_number};

pub(super) static DATASETS: &[DatasetRow] = &[
    DatasetRow {
        dataset: "france_travail.statut",
        version: 3,
        title: "Statut demandeur d'emploi",
        routes: &[by_number("identifiant", "/v3/france_travail/statut/identifiant")],
        attributes: &[
            AttributeRow::field(
                "inscription",
                Object(&[
                    ("date_debut", Text),
                    ("date_fin", Text),
                    ("categorie", Object(&[("code", Integer), ("libelle", Text)])),
                    ("code_certification_cnav", Text),
                ]),
                "pole_emploi_inscription",
                "Inscription et catégorie",
            ),
            AttributeRow::field(
                "identite",
                Object(&[
                    ("civilite", Text),
                    ("nom_naissance", Text),
                    ("nom_usage", Text),
                    ("prenom", Text),
                    ("sexe", Text),
                    ("date_naissance", Text),
                ]),
                "pole_emploi_identite",
                "Identité",
            ),
            AttributeRow::field(
                "contact",
                Object(&[("telephone", Text), ("telephone2", Text), ("email", Text)]),
                "pole_emploi_contact",
                "Téléphone et adresse électronique",
            ),
            AttributeRow::field(
                "adresse",
                Object(&[
                    ("code_postal", Text),
                    ("code_cog_insee_commune", Text),
                    ("localite", Text),
                    ("ligne_voie", Text),
                    ("ligne_complement_destinataire", Text),
                    ("ligne_complement_adresse", Text),
                    ("ligne_complement_distribution", Text),
                    ("ligne_nom", Text),
                ]),
                "pole_emploi_adresse",
                "Adresse",
            ),
            AttributeRow::field("identifiant", Text, "pole_emploi_identifiant", "Identifiant France Travail"),
        ],
        filters: &[FilterRow::needed("identifiant", FilterForm::Identifier)],
        one_of: &[],
        person: Some(PersonFields {
            at: "identite",
            birth_name: "nom_naissance",
            given_names: "prenom",
            birth_date: Some("date_naissance"),
        }),
    },
    DatasetRow {
        dataset: "france_travail.indemnites",
        version: 3,
        title: "Paiements versés par France Travail",
        routes: &[by_number("identifiant", "/v3/france_travail/indemnites/identifiant")],
        attributes: &[
            AttributeRow::field(
                "paiements",
                List(&Object(&[
                    ("date_versement", Text),
                    ("montant_total", Number),
                    ("montant_allocations", Number),
                    ("montant_aides", Number),
                    ("montant_autres", Number),
                ])),
                "pole_emploi_paiements",
                "Paiements",
            ),
            AttributeRow::field("identifiant", Text, "pole_emploi_paiements", "Identifiant France Travail"),
        ],
        filters: &[FilterRow::needed("identifiant", FilterForm::Identifier)],
        one_of: &[],
        person: None,
    },
];
