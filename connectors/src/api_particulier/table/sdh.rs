//! Directorate of sports: who is a top athlete.

use super::Shape::{self, Flag, Integer, List, Object, Text};
use super::{AttributeRow, DatasetRow, FilterForm, FilterRow, PersonFields, by_number};

const PERIOD: Shape = Object(&[("date_debut_statut", Text), ("date_fin_statut", Text)]);
const FEDERATION: Shape =
    Object(&[("code_federation", Text), ("nom_federation", Text), ("nom_court_federation", Text)]);
const CLUB: Shape = Object(&[("code_etablissement", Text), ("nom_etablissement", Text)]);
const REGION: Shape = Object(&[("code_region", Text), ("nom_region", Text)]);
const CATEGORY: Shape = Object(&[("code_categorie", Text), ("nom_categorie", Text), ("valeur", Text)]);

const STATUS: Shape = Object(&[
    ("fiche", Integer),
    ("periode", PERIOD),
    ("federation", FEDERATION),
    ("etablissement", CLUB),
    ("region", REGION),
    ("categorie", CATEGORY),
    ("sportif_de_haut_niveau", Flag),
]);

pub(super) static DATASETS: &[DatasetRow] = &[DatasetRow {
    dataset: "sdh.statut_sportif",
    version: 3,
    title: "Statut sportif de haut niveau et sur liste ministérielle",
    routes: &[by_number("identifiant", "/v3/sdh/statut_sportif/identifiant")],
    attributes: &[
        AttributeRow::field(
            "est_sportif_de_haut_niveau",
            Flag,
            "sdh_statut_sportif_est_sportif_de_haut_niveau",
            "Est sportif de haut niveau",
        ),
        AttributeRow::field(
            "a_ete_sportif_de_haut_niveau",
            Flag,
            "sdh_statut_sportif_a_ete_sportif_de_haut_niveau",
            "A été sportif de haut niveau",
        ),
        AttributeRow::field(
            "informations_statut",
            STATUS,
            "sdh_statut_sportif_informations_statut",
            "Informations sur le statut",
        ),
        AttributeRow::field(
            "informations_statuts_precedents",
            List(&STATUS),
            "sdh_statut_sportif_informations_statuts_precedents",
            "Informations sur les statuts précédents",
        ),
        AttributeRow::field(
            "identite",
            Object(&[
                ("nom_naissance", Text),
                ("nom_usage", Text),
                ("prenoms", Text),
                ("date_naissance", Text),
                ("sexe", Text),
            ]),
            "sdh_statut_sportif_identite",
            "Identité du sportif",
        ),
    ],
    filters: &[FilterRow::needed("identifiant", FilterForm::Identifier)],
    one_of: &[],
    person: Some(PersonFields {
        at: "identite",
        birth_name: "nom_naissance",
        given_names: "prenoms",
        birth_date: Some("date_naissance"),
    }),
}];
