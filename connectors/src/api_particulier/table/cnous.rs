//! CNOUS: scholarships of students.

use super::Shape::{Flag, List, Number, Object, Text};
use super::{
    AttributeRow, DatasetRow, FilterForm, FilterRow, IdentityParts, PersonFields, by_france_connect, by_identity,
    by_number,
};

const IDENTITY: IdentityParts = IdentityParts {
    most_given_names: 3,
    whole_birth_date: true,
    usage_name: false,
    sex: true,
    country: false,
    commune: true,
};

const PERSON: PersonFields =
    PersonFields { at: "identite", birth_name: "nom", given_names: "prenoms", birth_date: Some("date_naissance") };

const WHO: AttributeRow = AttributeRow::field(
    "identite",
    Object(&[
        ("nom", Text),
        ("prenoms", List(&Text)),
        ("date_naissance", Text),
        ("nom_commune_naissance", Text),
        ("sexe", Text),
    ]),
    "cnous_identite",
    "Identité de l'étudiant",
)
.not_by_france_connect();

const EMAIL: AttributeRow = AttributeRow::field("email", Text, "cnous_email", "Adresse électronique");

const LEVEL: AttributeRow = AttributeRow::field(
    "echelon_bourse",
    Object(&[("echelon", Text), ("echelon_bourse_regionale_provisoire", Flag)]),
    "cnous_echelon_bourse",
    "Échelon de la bourse",
);

const PERIOD: AttributeRow = AttributeRow::field(
    "periode_versement_bourse",
    Object(&[("date_rentree", Text), ("duree", Number)]),
    "cnous_periode_versement",
    "Période de versement",
);

const PLACE: AttributeRow = AttributeRow::field(
    "etablissement_etudes",
    Object(&[("nom_commune", Text), ("nom_etablissement", Text)]),
    "cnous_ville_etudes",
    "Établissement et commune d'études",
);

const STATUS: AttributeRow = AttributeRow::field(
    "statut_boursier",
    Object(&[("est_boursier", Flag), ("est_radie", Flag), ("date_radiation", Text)]),
    "cnous_statut_boursier",
    "Statut de boursier",
);

pub(super) static DATASETS: &[DatasetRow] = &[
    DatasetRow {
        dataset: "cnous.etudiant_boursier",
        version: 3,
        title: "Statut étudiant boursier",
        routes: &[
            by_number("ine", "/v3/cnous/etudiant_boursier/ine"),
            by_france_connect("/v3/cnous/etudiant_boursier/france_connect"),
            by_identity(IDENTITY, "/v3/cnous/etudiant_boursier/identite"),
        ],
        attributes: &[
            AttributeRow::field("est_boursier", Flag, "cnous_statut_boursier", "Est boursier"),
            LEVEL,
            PERIOD,
            PLACE,
            EMAIL,
            WHO,
        ],
        filters: &[FilterRow::new("ine", FilterForm::Ine)],
        one_of: &[],
        person: Some(PERSON),
    },
    DatasetRow {
        dataset: "cnous.etudiant_boursier",
        version: 4,
        title: "Statut étudiant boursier",
        routes: &[
            by_number("ine", "/v4/cnous/etudiant_boursier/ine"),
            by_france_connect("/v4/cnous/etudiant_boursier/france_connect"),
            by_identity(IDENTITY, "/v4/cnous/etudiant_boursier/identite"),
        ],
        attributes: &[
            STATUS,
            AttributeRow::new(
                "est_boursier",
                "statut_boursier.est_boursier",
                Flag,
                "cnous_statut_boursier",
                "Est boursier",
            ),
            LEVEL,
            PERIOD,
            PLACE,
            EMAIL,
            WHO,
        ],
        filters: &[FilterRow::new("ine", FilterForm::Ine), FilterRow::new("campaignYear", FilterForm::Year)],
        one_of: &[],
        person: Some(PERSON),
    },
];
