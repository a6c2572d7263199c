//! Ministry of higher education: whether somebody is a student.

use super::Shape::{self, Flag, List, Object, Text};
use super::{
    AttributeRow, DatasetRow, FilterForm, FilterRow, IdentityParts, PersonFields, by_france_connect, by_identity,
    by_number,
};

const IDENTITY: IdentityParts = IdentityParts {
    most_given_names: 1,
    whole_birth_date: true,
    usage_name: false,
    sex: true,
    country: false,
    commune: true,
};

const COURSE: Shape = Object(&[("libelle", Text), ("code", Text)]);
const PLACE: Shape = Object(&[("uai", Text), ("nom", Text)]);
const ADMISSION: Shape = Object(&[
    ("date_debut", Text),
    ("date_fin", Text),
    ("est_inscrit", Flag),
    ("regime_formation", COURSE),
    ("code_cog_insee_commune", Text),
    ("etablissement_etudes", PLACE),
]);

pub(super) static DATASETS: &[DatasetRow] = &[DatasetRow {
    dataset: "mesri.statut_etudiant",
    version: 3,
    title: "Statut étudiant",
    routes: &[
        by_number("ine", "/v3/mesri/statut_etudiant/ine"),
        by_france_connect("/v3/mesri/statut_etudiant/france_connect"),
        by_identity(IDENTITY, "/v3/mesri/statut_etudiant/identite"),
    ],
    attributes: &[
        AttributeRow::field("admissions", List(&ADMISSION), "mesri_admissions", "Inscriptions et admissions"),
        AttributeRow::new(
            "admissions_est_inscrit",
            "admissions[].est_inscrit",
            List(&Flag),
            "mesri_admission_inscrit",
            "Est inscrit, pour chaque admission",
        )
        .part(),
        AttributeRow::new(
            "admissions_regime_formation",
            "admissions[].regime_formation",
            List(&COURSE),
            "mesri_admission_regime_formation",
            "Régime de formation, pour chaque admission",
        )
        .part(),
        AttributeRow::new(
            "admissions_commune_etudes",
            "admissions[].code_cog_insee_commune",
            List(&Text),
            "mesri_admission_commune_etudes",
            "Commune d'études, pour chaque admission",
        )
        .part(),
        AttributeRow::new(
            "admissions_etablissement_etudes",
            "admissions[].etablissement_etudes",
            List(&PLACE),
            "mesri_admission_etablissement_etudes",
            "Établissement d'études, pour chaque admission",
        )
        .part(),
        AttributeRow::field(
            "identite",
            Object(&[("nom_naissance", Text), ("prenom", Text), ("date_naissance", Text)]),
            "mesri_identite",
            "Identité de l'étudiant",
        )
        .not_by_france_connect(),
    ],
    filters: &[FilterRow::new("ine", FilterForm::Ine)],
    one_of: &[],
    person: Some(PersonFields {
        at: "identite",
        birth_name: "nom_naissance",
        given_names: "prenom",
        birth_date: Some("date_naissance"),
    }),
}];
