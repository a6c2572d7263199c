//! Directorate of national service and youth: whether somebody is in order with national service.

use super::Shape::Text;
use super::{AttributeRow, DatasetRow, IdentityParts, by_france_connect, by_identity};

const IDENTITY: IdentityParts = IdentityParts {
    most_given_names: 3,
    whole_birth_date: true,
    usage_name: false,
    sex: true,
    country: true,
    commune: true,
};

const SCOPE: &str = "dsnj_statut_service_national";

pub(super) static DATASETS: &[DatasetRow] = &[DatasetRow {
    dataset: "dsnj.service_national",
    version: 3,
    title: "Situation au regard du service national",
    routes: &[
        by_france_connect("/v3/dsnj/service_national/france_connect"),
        by_identity(IDENTITY, "/v3/dsnj/service_national/identite"),
    ],
    attributes: &[
        AttributeRow::field("statut_service_national", Text, SCOPE, "Situation"),
        AttributeRow::field("commentaires", Text, SCOPE, "Commentaires"),
    ],
    filters: &[],
    one_of: &[],
    person: None,
}];
