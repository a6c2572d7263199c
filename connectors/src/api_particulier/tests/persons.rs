//! Whether the person in the answer is the one asked.

use super::*;
use crate::api_particulier::person::may_be;

/// The answer about a student who is told by an INE, as the API gives it.
fn student(nom: &str, prenoms: &[&str], date: &str) -> Value {
    json!({"data": {"est_boursier": true, "identite": {"nom": nom, "prenoms": prenoms, "date_naissance": date}}})
}

fn by_ine() -> Asked {
    Asked::filtered("cnous.etudiant_boursier", &["est_boursier"], &[("ine", "1234567890G")])
}

async fn answer(body: &Value, asked: &Asked) -> Result<Vec<OutcomeCode>, SourceFault> {
    let server = Server::start(vec![Reply::json(200, body)]).await;
    connector(&server.url()).fetch(asked.fetch()).await.map(|answer| codes(&answer))
}

#[tokio::test]
async fn a_number_of_another_person_gives_nothing_of_that_person() {
    let right = student("LEFEVRE D OEUVRE", &["GEROME"], "1982-12-07");
    assert_eq!(answer(&right, &by_ine()).await, Ok(vec![OutcomeCode::Found]));
    for wrong in [
        student("MARTIN", &["GEROME"], "1982-12-07"),
        student("LEFEVRE D OEUVRE", &["PIERRE"], "1982-12-07"),
        student("LEFEVRE D OEUVRE", &["GEROME"], "1983-12-07"),
    ] {
        assert_eq!(answer(&wrong, &by_ine()).await, Ok(vec![OutcomeCode::NotIdentified]), "{wrong}");
    }
}

#[tokio::test]
async fn an_answer_about_another_person_than_the_identity_asked_gives_nothing_of_that_person() {
    let asked = Asked::new("cnous.etudiant_boursier", &["est_boursier"]);
    let right = student("Lefèvre-d'Œuvre", &["Gérôme", "Jean-Philippe"], "1982-12-07");
    assert_eq!(answer(&right, &asked).await, Ok(vec![OutcomeCode::Found]));
    let wrong = student("Martin", &["Gérôme"], "1982-12-07");
    assert_eq!(answer(&wrong, &asked).await, Ok(vec![OutcomeCode::NotIdentified]));
}

#[tokio::test]
async fn a_vehicle_of_another_person_than_the_tokens_is_not_told() {
    let asked = Asked::filtered(
        "ants.extrait_immatriculation_vehicule",
        &["statut_rattachement"],
        &[("immatriculation", "AA-123-BB")],
    )
    .with_token("fc-token-1");
    let body = |matches: bool, nom: &str| {
        json!({
            "data": {"statut_rattachement": "titulaire", "identite_particulier": {"nom": nom, "prenom": "GEROME"}},
            "meta": {"identity_matching": {"family_name": 1.0, "overall_match": matches}},
        })
    };
    assert_eq!(answer(&body(true, "LEFEVRE D OEUVRE"), &asked).await, Ok(vec![OutcomeCode::Found]));
    assert_eq!(answer(&body(false, "LEFEVRE D OEUVRE"), &asked).await, Ok(vec![OutcomeCode::NotIdentified]));
    assert_eq!(answer(&body(true, "MARTIN"), &asked).await, Ok(vec![OutcomeCode::NotIdentified]));
}

#[tokio::test]
async fn an_answer_that_names_nobody_is_about_the_one_asked() {
    let body = json!({"data": {"est_boursier": true}, "meta": null});
    assert_eq!(answer(&body, &by_ine()).await, Ok(vec![OutcomeCode::Found]));
}

#[test]
fn spelling_does_not_count_and_what_one_side_leaves_out_is_not_compared() {
    let fields = table::PersonFields { at: "p", birth_name: "nom", given_names: "prenom", birth_date: Some("date") };
    let is = |person: Value, asked: &unefois_consent::PivotIdentity| {
        let data = json!({"p": person});
        may_be(&fields, data.as_object().unwrap(), asked)
    };
    let mut asked = identity("Le Goff", &["Anne-Marie", "Zoé"], "1982-12");
    asked.usage_name = Some("MARTIN".parse().unwrap());
    for same in [
        json!({"nom": "LEGOFF", "prenom": "ZOE", "date": "1982-12-07"}),
        json!({"nom": "Martin", "prenom": "Anne", "date": "1982"}),
        json!({"nom": "le goff", "prenom": ["ANNE MARIE"], "date": "1982-00-00"}),
        json!({"nom": null, "prenom": null, "date": null}),
        json!({"nom": "LE GOFF", "prenom": "", "date": "inconnue"}),
        json!({}),
        Value::Null,
    ] {
        assert!(is(same.clone(), &asked), "{same}");
    }
    for other in [
        json!({"nom": "LE GOF", "prenom": "ZOE"}),
        json!({"nom": "LE GOFF", "prenom": "MARC"}),
        json!({"nom": "LE GOFF", "prenom": ["MARC", "LUC"]}),
        json!({"nom": "LE GOFF", "prenom": "ZOE", "date": "1981-12-07"}),
        json!({"nom": "LE GOFF", "prenom": "ZOE", "date": "1982-11-07"}),
        json!({"nom": "LE GOFF", "prenom": "ZOE", "date": "1981-00-00"}),
    ] {
        assert!(!is(other.clone(), &asked), "{other}");
    }
}
