//! Social security: family benefits offices (CNAF, MSA) and health insurance.

use super::Shape::{Flag, Integer, List, Object, Text};
use super::{AttributeRow, DatasetRow, FilterForm, FilterRow, IdentityParts, Shape, by_france_connect, by_identity};

const IDENTITY: IdentityParts = IdentityParts {
    most_given_names: 3,
    whole_birth_date: false,
    usage_name: true,
    sex: true,
    country: true,
    commune: true,
};

const PERSON: Shape = Object(&[
    ("nom_naissance", Text),
    ("nom_usage", Text),
    ("prenoms", Text),
    ("date_naissance", Text),
    ("sexe", Text),
    ("code_cog_insee_commune_naissance", Text),
]);

const ADDRESS: Shape = Object(&[
    ("destinataire", Text),
    ("complement_information", Text),
    ("complement_information_geographique", Text),
    ("numero_libelle_voie", Text),
    ("lieu_dit", Text),
    ("code_postal_ville", Text),
    ("pays", Text),
]);

const PARAMETERS: Shape = Object(&[
    ("nombre_enfants_a_charge", Integer),
    ("nombre_enfants_beneficiaire_aeeh", Integer),
    ("base_ressources_annuelles", Object(&[("valeur", Integer), ("annee_calcul", Integer)])),
]);

const fn quotient(name: &'static str, field: &'static str, shape: Shape, title: &'static str) -> AttributeRow {
    AttributeRow::new(name, field, shape, "cnaf_quotient_familial", title)
}

const fn is_beneficiary(scope: &'static str) -> AttributeRow {
    AttributeRow::field("est_beneficiaire", Flag, scope, "Bénéficie de la prestation")
}

const fn begins(scope: &'static str) -> AttributeRow {
    AttributeRow::field("date_debut_droit", Text, scope, "Date d'ouverture du droit")
}

const fn increased(scope: &'static str) -> AttributeRow {
    AttributeRow::field("avec_majoration", Flag, scope, "Avec majoration")
}

/// A row without filters, whose answer names nobody.
const fn row(
    dataset: &'static str,
    title: &'static str,
    routes: &'static [super::Route],
    attributes: &'static [AttributeRow],
) -> DatasetRow {
    DatasetRow { dataset, version: 3, title, routes, attributes, filters: &[], one_of: &[], person: None }
}

pub(super) static DATASETS: &[DatasetRow] = &[
    DatasetRow {
        // People in the answer are those of the household, and the office takes near spellings: no person to compare.
        filters: &[FilterRow::new("annee", FilterForm::Year), FilterRow::new("mois", FilterForm::Month)],
        ..row(
            "dss.quotient_familial",
            "Quotient familial CAF et MSA",
            &[
                by_france_connect("/v3/dss/quotient_familial/france_connect"),
                by_identity(IDENTITY, "/v3/dss/quotient_familial/identite"),
            ],
            &[
                quotient("valeur", "quotient_familial.valeur", Integer, "Valeur du quotient familial"),
                quotient("fournisseur", "quotient_familial.fournisseur", Text, "Organisme qui l'a calculé"),
                quotient("annee", "quotient_familial.annee", Integer, "Année à laquelle il s'applique"),
                quotient("mois", "quotient_familial.mois", Integer, "Mois auquel il s'applique"),
                quotient("annee_calcul", "quotient_familial.annee_calcul", Integer, "Année de calcul"),
                quotient("mois_calcul", "quotient_familial.mois_calcul", Integer, "Mois de calcul"),
                AttributeRow::field("allocataires", List(&PERSON), "cnaf_allocataires", "Identité des allocataires"),
                AttributeRow::field("enfants", List(&PERSON), "cnaf_enfants", "Identité des enfants"),
                AttributeRow::field("adresse", ADDRESS, "cnaf_adresse", "Adresse déclarée"),
            ],
        )
    },
    row(
        "dss.revenu_solidarite_active",
        "Statut revenu de solidarité active (RSA)",
        &[
            by_france_connect("/v3/dss/revenu_solidarite_active/france_connect"),
            by_identity(IDENTITY, "/v3/dss/revenu_solidarite_active/identite"),
        ],
        &[
            is_beneficiary("revenu_solidarite_active"),
            increased("revenu_solidarite_active_majoration"),
            begins("revenu_solidarite_active"),
        ],
    ),
    row(
        "dss.prime_activite",
        "Statut prime d'activité",
        &[
            by_france_connect("/v3/dss/prime_activite/france_connect"),
            by_identity(IDENTITY, "/v3/dss/prime_activite/identite"),
        ],
        &[is_beneficiary("prime_activite"), increased("prime_activite_majoration"), begins("prime_activite")],
    ),
    row(
        "dss.allocation_adulte_handicape",
        "Statut allocation aux adultes handicapés (AAH)",
        &[
            by_france_connect("/v3/dss/allocation_adulte_handicape/france_connect"),
            by_identity(IDENTITY, "/v3/dss/allocation_adulte_handicape/identite"),
        ],
        &[is_beneficiary("allocation_adulte_handicape"), begins("allocation_adulte_handicape")],
    ),
    row(
        "dss.allocation_enfant_handicape",
        "Statut allocation d'éducation de l'enfant handicapé (AEEH)",
        &[
            by_france_connect("/v3/dss/allocation_enfant_handicape/france_connect"),
            by_identity(IDENTITY, "/v3/dss/allocation_enfant_handicape/identite"),
        ],
        &[
            AttributeRow::field(
                "status",
                Text,
                "cnav_allocation_enfant_handicape",
                "Allocataire, ouvrant droit ou non",
            ),
            begins("cnav_allocation_enfant_handicape"),
        ],
    ),
    row(
        "dss.allocation_soutien_familial",
        "Statut allocation de soutien familial (ASF)",
        &[
            by_france_connect("/v3/dss/allocation_soutien_familial/france_connect"),
            by_identity(IDENTITY, "/v3/dss/allocation_soutien_familial/identite"),
        ],
        &[is_beneficiary("allocation_soutien_familial"), begins("allocation_soutien_familial")],
    ),
    row(
        "dss.complementaire_sante_solidaire",
        "Statut complémentaire santé solidaire (C2S)",
        &[
            by_france_connect("/v3/dss/complementaire_sante_solidaire/france_connect"),
            by_identity(IDENTITY, "/v3/dss/complementaire_sante_solidaire/identite"),
        ],
        &[
            is_beneficiary("complementaire_sante_solidaire"),
            AttributeRow::field(
                "avec_participation",
                Flag,
                "complementaire_sante_solidaire",
                "Avec participation financière",
            ),
            begins("complementaire_sante_solidaire"),
        ],
    ),
    row(
        "dss.participation_familiale_eaje",
        "Participation familiale aux établissements d'accueil du jeune enfant (EAJE)",
        &[
            by_france_connect("/v3/dss/participation_familiale_eaje/france_connect"),
            by_identity(IDENTITY, "/v3/dss/participation_familiale_eaje/identite"),
        ],
        &[
            AttributeRow::field(
                "allocataires",
                List(&PERSON),
                "cnav_participation_familiale_eaje_allocataires",
                "Identité des allocataires",
            ),
            AttributeRow::field(
                "enfants",
                List(&PERSON),
                "cnav_participation_familiale_eaje_enfants",
                "Identité des enfants",
            ),
            AttributeRow::field("adresse", ADDRESS, "cnav_participation_familiale_eaje_adresse", "Adresse déclarée"),
            AttributeRow::field(
                "parametres_calcul_participation_familiale",
                PARAMETERS,
                "cnav_participation_familiale_eaje_parametres_calcul",
                "Paramètres de calcul de la participation",
            ),
        ],
    ),
];
