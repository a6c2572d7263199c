//! GIP-MDS: civic service.

use super::Shape::{self, Flag, Object, Text};
use super::{AttributeRow, DatasetRow, IdentityParts, by_france_connect, by_identity};

const IDENTITY: IdentityParts = IdentityParts {
    most_given_names: 3,
    whole_birth_date: true,
    usage_name: false,
    sex: false,
    country: false,
    commune: false,
};

const HOST: Shape = Object(&[("siret", Text), ("raison_sociale", Text)]);
const CONTRACT: Shape = Object(&[
    ("contrat_trouve", Flag),
    ("organisme_accueil", HOST),
    ("date_debut_contrat", Text),
    ("date_fin_contrat", Text),
]);

const NOW: &str = "gip_mds_service_civique_statut_actuel";
const BEFORE: &str = "gip_mds_service_civique_statut_passe";

const fn host(name: &'static str, field: &'static str, title: &'static str) -> AttributeRow {
    AttributeRow::new(name, field, HOST, "gip_mds_service_civique_organisme_accueil", title).part()
}

const fn date(name: &'static str, field: &'static str, title: &'static str) -> AttributeRow {
    AttributeRow::new(name, field, Text, "gip_mds_service_civique_dates", title).part()
}

pub(super) static DATASETS: &[DatasetRow] = &[DatasetRow {
    dataset: "gip_mds.service_civique",
    version: 3,
    title: "Statut service civique",
    routes: &[
        by_france_connect("/v3/gip_mds/service_civique/france_connect"),
        by_identity(IDENTITY, "/v3/gip_mds/service_civique/identite"),
    ],
    attributes: &[
        AttributeRow::field("statut_actuel", CONTRACT, NOW, "Contrat en cours"),
        AttributeRow::new("actuel_contrat_trouve", "statut_actuel.contrat_trouve", Flag, NOW, "A un contrat en cours"),
        host("actuel_organisme_accueil", "statut_actuel.organisme_accueil", "Organisme d'accueil du contrat en cours"),
        date("actuel_date_debut_contrat", "statut_actuel.date_debut_contrat", "Début du contrat en cours"),
        date("actuel_date_fin_contrat", "statut_actuel.date_fin_contrat", "Fin du contrat en cours"),
        AttributeRow::field("statut_passe", CONTRACT, BEFORE, "Contrat passé"),
        AttributeRow::new("passe_contrat_trouve", "statut_passe.contrat_trouve", Flag, BEFORE, "A eu un contrat"),
        host("passe_organisme_accueil", "statut_passe.organisme_accueil", "Organisme d'accueil du contrat passé"),
        date("passe_date_debut_contrat", "statut_passe.date_debut_contrat", "Début du contrat passé"),
        date("passe_date_fin_contrat", "statut_passe.date_fin_contrat", "Fin du contrat passé"),
    ],
    filters: &[],
    one_of: &[],
    person: None,
}];
