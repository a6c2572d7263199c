//! ANTS (now France Titres): registration of vehicles.

use super::Shape::{self, Integer, Number, Object, Text};
use super::{AttributeRow, DatasetRow, FilterForm, FilterRow, PersonFields, by_france_connect};

const CODE: Shape = Object(&[("code", Text), ("label", Text)]);

pub(super) static DATASETS: &[DatasetRow] = &[DatasetRow {
    dataset: "ants.extrait_immatriculation_vehicule",
    version: 3,
    title: "Extrait d'immatriculation de véhicule",
    routes: &[by_france_connect("/v3/ants/extrait_immatriculation_vehicule/france_connect")],
    attributes: &[
        AttributeRow::field(
            "statut_rattachement",
            Text,
            "ants_extrait_immatriculation_vehicule_statut_rattachement",
            "Titulaire, cotitulaire ou locataire",
        ),
        AttributeRow::field(
            "donnees_immatriculation_vehicule",
            Object(&[
                ("numero_immatriculation", Text),
                ("date_premiere_immatriculation", Text),
                ("statut_location", CODE),
            ]),
            "ants_extrait_immatriculation_vehicule_donnees_immatriculation_vehicule",
            "Données d'immatriculation",
        ),
        AttributeRow::field(
            "caracteristiques_techniques_vehicule",
            Object(&[
                ("marque", Text),
                ("type_variante_version", Text),
                ("denomination_commerciale", Text),
                ("masse_charge_maximale", Number),
                ("categorie_vehicule", CODE),
                ("genre_national", CODE),
                ("cylindree", Number),
                ("type_carburant", CODE),
                ("taux_co2", Number),
                ("classe_environnementale", CODE),
            ]),
            "ants_extrait_immatriculation_vehicule_caracteristiques_techniques_vehicule",
            "Caractéristiques techniques",
        ),
        AttributeRow::field(
            "identite_particulier",
            Object(&[
                ("nom", Text),
                ("prenom", Text),
                ("sexe_etat_civil", Text),
                ("annee_date_naissance", Integer),
                ("mois_date_naissance", Integer),
                ("jour_date_naissance", Integer),
                ("code_departement_naissance", Text),
            ]),
            "ants_extrait_immatriculation_vehicule_identite_particulier",
            "Identité du titulaire ou du locataire",
        ),
        AttributeRow::field(
            "adresse_particulier",
            Object(&[
                ("complement_information", Text),
                ("num_voie", Text),
                ("type_voie", Text),
                ("libelle_voie", Text),
                ("code_postal_ville", Text),
                ("libelle_commune", Text),
                ("lieu_dit", Text),
                ("etage_escalier_appartement", Text),
                ("extension", Text),
                ("pays", Text),
            ]),
            "ants_extrait_immatriculation_vehicule_adresse_particulier",
            "Adresse du titulaire ou du locataire",
        ),
    ],
    filters: &[FilterRow::needed("immatriculation", FilterForm::Plate)],
    one_of: &[],
    // The OpenAPI of this path: the birth date is told, and does not count for a match.
    person: Some(PersonFields {
        at: "identite_particulier",
        birth_name: "nom",
        given_names: "prenom",
        birth_date: None,
    }),
}];
