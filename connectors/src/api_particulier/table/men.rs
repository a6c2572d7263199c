//! Ministry of education: whether a pupil goes to a school, with which scholarship.

use super::Shape::{Flag, Integer, Object, Text};
use super::{AttributeRow, DatasetRow, FilterForm, FilterRow, IdentityParts, PersonFields, Route, by_identity};

const IDENTITY: IdentityParts = IdentityParts {
    most_given_names: 3,
    whole_birth_date: true,
    usage_name: false,
    sex: true,
    country: false,
    commune: false,
};

const WHO: AttributeRow = AttributeRow::field(
    "identite",
    Object(&[("nom", Text), ("prenom", Text), ("sexe", Text), ("date_naissance", Text)]),
    "men_statut_identite",
    "Identité de l'élève",
);
const YEAR: AttributeRow = AttributeRow::field("annee_scolaire", Text, "men_statut_scolarite", "Année scolaire");
const GOES: AttributeRow = AttributeRow::field("est_scolarise", Flag, "men_statut_scolarite", "Est scolarisé");
const STATUS: AttributeRow = AttributeRow::field(
    "statut_eleve",
    Object(&[("code", Text), ("libelle", Text)]),
    "men_statut_scolarite",
    "Statut de l'élève",
);
const SCHOOL: AttributeRow = AttributeRow::field(
    "etablissement",
    Object(&[("code_uai", Text), ("code_ministere_tutelle", Text)]),
    "men_statut_etablissement",
    "Établissement",
);
const COURSE: AttributeRow = AttributeRow::field(
    "module_elementaire_formation",
    Object(&[("code_mef_stat", Text), ("libelle", Text)]),
    "men_statut_module_elementaire_formation",
    "Module élémentaire de formation",
);
const SCHOLAR: AttributeRow = AttributeRow::field("est_boursier", Flag, "men_statut_boursier", "Est boursier");
const LEVEL: AttributeRow =
    AttributeRow::field("echelon_bourse", Integer, "men_echelon_bourse", "Échelon de la bourse");
const BOARDING: AttributeRow = AttributeRow::field(
    "regime_pensionnat",
    Object(&[("code", Text), ("libelle", Text)]),
    "men_regime_pensionnat",
    "Régime de pension",
);

static FILTERS: &[FilterRow] = &[
    FilterRow::needed("anneeScolaire", FilterForm::SchoolYear),
    FilterRow::new("codeEtablissement", FilterForm::Uai),
    FilterRow::new("degreEtablissement", FilterForm::Degree),
    FilterRow::new("codesBcnDepartements", FilterForm::Codes),
    FilterRow::new("codesBcnRegions", FilterForm::Codes),
];

const fn row(version: u32, routes: &'static [Route], attributes: &'static [AttributeRow]) -> DatasetRow {
    DatasetRow {
        dataset: "men.scolarites",
        version,
        title: "Statut élève scolarisé et boursier",
        routes,
        attributes,
        filters: FILTERS,
        // The API's errors 00413 and 00419.
        one_of: &["codeEtablissement", "codesBcnDepartements", "codesBcnRegions"],
        person: Some(PersonFields {
            at: "identite",
            birth_name: "nom",
            given_names: "prenom",
            birth_date: Some("date_naissance"),
        }),
    }
}

pub(super) static DATASETS: &[DatasetRow] = &[
    row(
        3,
        &[by_identity(IDENTITY, "/v3/men/scolarites/identite")],
        &[GOES, YEAR, STATUS, SCHOOL, COURSE, SCHOLAR, LEVEL, WHO],
    ),
    row(
        4,
        &[by_identity(IDENTITY, "/v4/men/scolarites/identite")],
        &[GOES, YEAR, STATUS, SCHOOL, COURSE, SCHOLAR, LEVEL, WHO],
    ),
    row(
        5,
        &[by_identity(IDENTITY, "/v5/men/scolarites/identite")],
        &[GOES, YEAR, STATUS, SCHOOL, COURSE, SCHOLAR, LEVEL, BOARDING, WHO],
    ),
];
