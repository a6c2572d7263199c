//! Each dataset is asked by the path that fits, with what that path takes and no more.

use unefois_consent::registry::Dataset;

use super::*;
use crate::Guarded;
use crate::testing::dataset_of;

/// Path and names of the query's parameters, in order and once each, of what a question asks.
async fn asked_as(asked: &Asked) -> (String, Vec<String>) {
    let server = Server::start(vec![Reply::error(404, "37003", "Titre")]).await;
    connector(&server.url()).fetch(asked.fetch()).await.unwrap();
    let requests = server.requests();
    let target = requests[0].split(' ').nth(1).unwrap();
    let url = Url::parse(&format!("http://source{target}")).unwrap();
    let mut names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    names.dedup();
    (url.path().to_owned(), names)
}

const DATE: [&str; 3] = ["anneeDateNaissance", "moisDateNaissance", "jourDateNaissance"];

#[tokio::test]
async fn each_path_gets_the_parts_of_the_identity_that_it_takes() {
    const SEX: &str = "sexeEtatCivil";
    const COUNTRY: &str = "codeCogInseePaysNaissance";
    const COMMUNE: &str = "codeCogInseeCommuneNaissance";
    for (dataset, attribute, path, rest) in [
        ("dss.prime_activite", "est_beneficiaire", "/v3/dss/prime_activite/identite", &[SEX, COUNTRY, COMMUNE][..]),
        ("dsnj.service_national", "commentaires", "/v3/dsnj/service_national/identite", &[SEX, COUNTRY, COMMUNE]),
        ("cnous.etudiant_boursier", "email", "/v3/cnous/etudiant_boursier/identite", &[SEX, COMMUNE]),
        ("cnous.etudiant_boursier.v4", "email", "/v4/cnous/etudiant_boursier/identite", &[SEX, COMMUNE]),
        ("mesri.statut_etudiant", "admissions", "/v3/mesri/statut_etudiant/identite", &[SEX, COMMUNE]),
        ("gip_mds.service_civique", "statut_actuel", "/v3/gip_mds/service_civique/identite", &[]),
    ] {
        let mut person = crate::testing::person();
        person.usage_name = Some("Usage".parse().unwrap());
        let (asked_path, names) = asked_as(&Asked::new(dataset, &[attribute]).about(person)).await;
        let usage: &[&str] = if dataset.starts_with("dss.") { &["nomUsage"] } else { &[] };
        let expected = [&["recipient", "nomNaissance"], usage, &["prenoms[]"], &DATE, rest].concat();
        assert_eq!((asked_path.as_str(), names), (path, expected.iter().map(|s| (*s).to_owned()).collect()));
    }
}

#[tokio::test]
async fn a_student_is_asked_by_one_given_name() {
    let server = Server::start(vec![Reply::error(404, "25003", "Titre")]).await;
    let asked = Asked::new("mesri.statut_etudiant", &["admissions"]);
    connector(&server.url()).fetch(asked.fetch()).await.unwrap();
    assert_eq!(server.requests()[0].matches("prenoms%5B%5D=").count(), 1);
}

#[tokio::test]
async fn where_a_path_needs_the_whole_birth_date_a_partial_one_does_not_identify() {
    let server = Server::start(vec![Reply::json(200, &body())]).await;
    let connector = connector(&server.url());
    for date in ["", "1982", "1982-12"] {
        let asked = Asked::new("gip_mds.service_civique", &["statut_actuel"]).about(identity("A", &["B"], date));
        assert_eq!(codes(&connector.fetch(asked.fetch()).await.unwrap()), [OutcomeCode::NotIdentified]);
    }
    assert_eq!(server.requests(), Vec::<String>::new());
}

#[tokio::test]
async fn a_number_goes_before_a_token_and_a_token_before_the_identity() {
    let asked = |filter: &[(&str, &str)]| Asked::filtered("mesri.statut_etudiant", &["admissions"], filter);
    let ine = [("ine", "1234567890G")];
    let names = |names: &[&str]| names.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let (path, query) = asked_as(&asked(&ine).with_token("fc")).await;
    assert_eq!((path.as_str(), query), ("/v3/mesri/statut_etudiant/ine", names(&["recipient", "ine"])));
    let (path, query) = asked_as(&asked(&[]).with_token("fc")).await;
    assert_eq!((path.as_str(), query), ("/v3/mesri/statut_etudiant/france_connect", names(&["recipient"])));
    // FranceConnect's path does not tell the identity, so who asks for it is asked by the identity.
    let who = Asked::new("mesri.statut_etudiant", &["admissions", "identite"]).with_token("fc");
    assert_eq!(asked_as(&who).await.0, "/v3/mesri/statut_etudiant/identite");
}

#[tokio::test]
async fn a_filter_of_several_values_is_sent_as_several() {
    let filter = [("anneeScolaire", "2025-2026"), ("codesBcnDepartements", "075,02A")];
    let server = Server::start(vec![Reply::error(404, "30003", "Titre")]).await;
    let asked = Asked::filtered("men.scolarites.v5", &["regime_pensionnat"], &filter);
    connector(&server.url()).fetch(asked.fetch()).await.unwrap();
    let request = &server.requests()[0];
    assert!(request.starts_with("GET /v5/men/scolarites/identite?"), "{request}");
    assert!(request.contains("codesBcnDepartements%5B%5D=075&codesBcnDepartements%5B%5D=02A"), "{request}");
}

#[test]
fn a_malformed_question_is_refused_with_the_name_of_the_field() {
    let guard = Guarded::new("api".parse().unwrap(), Arc::new(connector("https://source.example")), Limits::default());
    let check = |dataset: &str, filter: &[(&str, &str)], has_token: bool| {
        let filter = filter.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        guard.check(&dataset_of(dataset, &["a"]), &filter, has_token).map_err(|fault| (fault.field, fault.rule))
    };
    let year = ("anneeScolaire", "2025");
    for (dataset, filter, field) in [
        (DATASET, &[("annee", "26")][..], "filters.dss.quotient_familial.annee"),
        (DATASET, &[("annee", "2026"), ("mois", "13")], "filters.dss.quotient_familial.mois"),
        ("men.scolarites", &[], "filters.men.scolarites.anneeScolaire"),
        ("men.scolarites.v5", &[year], "filters.men.scolarites.v5.codeEtablissement"),
        (
            "men.scolarites",
            &[year, ("codeEtablissement", "0210015C"), ("codesBcnRegions", "01")],
            "filters.men.scolarites.codesBcnRegions",
        ),
        ("france_travail.statut", &[], "filters.france_travail.statut.identifiant"),
        ("ants.extrait_immatriculation_vehicule", &[("immatriculation", "AA-123-BB")], "france_connect_token"),
    ] {
        let (refused, rule) = check(dataset, filter, false).unwrap_err();
        assert_eq!(refused, field);
        assert!(!rule.is_empty() && !rule.contains("26"), "{rule}");
    }
    for (dataset, filter) in [
        (DATASET, &[][..]),
        (DATASET, &[("annee", "2026"), ("mois", "05")]),
        // The registry decides which filters there are.
        (DATASET, &[("autre", "x")]),
        ("men.scolarites", &[year, ("codeEtablissement", "0210015C")]),
        ("ants.extrait_immatriculation_vehicule", &[("immatriculation", "AA-123-BB")]),
        ("no.such_dataset", &[("annee", "26")]),
    ] {
        assert_eq!(check(dataset, filter, true), Ok(()), "{dataset}");
    }
}

#[test]
fn what_a_registry_names_and_the_api_lacks_is_told_at_start() {
    let guard = Guarded::new("api".parse().unwrap(), Arc::new(connector("https://source.example")), Limits::default());
    let lacks = |dataset: &Dataset| guard.why_not_served(dataset).unwrap_or_default();
    assert_eq!(lacks(&dataset_of(DATASET, &["valeur", "adresse"])), "");
    assert_eq!(
        lacks(&dataset_of(DATASET, &["valeur", "salaire"])),
        "dataset dss.quotient_familial: the source has no attribute salaire"
    );
    let mut dataset = dataset_of(DATASET, &["valeur"]);
    dataset.filters = vec!["annee".to_owned(), "jour".to_owned()];
    assert_eq!(lacks(&dataset), "dataset dss.quotient_familial: the source has no filter jour");
    dataset.version = "v9".to_owned();
    assert_eq!(lacks(&dataset), "dataset dss.quotient_familial: the source has no version v9");
    assert!(
        guard.serves(&"men.scolarites.v5".parse().unwrap()) && !guard.serves(&"men.scolarites.v6".parse().unwrap())
    );
}
