//! The story: each step asks the running broker and says what came of it. A step that ends in another way than it should
//! ends the demonstration as failed.

use std::time::Duration;

use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use unefois_consent::{Channel, Ground, Language, NoticeShown};
use unefois_proto::exchange::wire_ground;
use unefois_proto::fields::wire_instant;
use unefois_proto::v1;

use super::Stage;
use crate::cli::Failure;
use crate::client::{Client, Profile};
use crate::pki::{DevelopmentCa, Issued, Validity};

const CANTEEN: &str = "tarification-cantine";
const ALLOWANCE: &str = "allocation-rentree";
const QUOTIENT: &str = "dss.quotient_familial.valeur";

fn say(text: impl AsRef<str>) {
    crate::cli::print_line(text);
}

fn heading(number: u32, text: &str) {
    say(format!("\n{number:>2}. {text}"));
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("      {line}")).collect::<Vec<_>>().join("\n")
}

/// The person whom the story is about; fictitious.
fn camille() -> v1::Identity {
    person("MARCHAND", "Camille", "1988-04-17")
}

fn person(birth_name: &str, given_name: &str, birth_date: &str) -> v1::Identity {
    v1::Identity {
        birth_name: birth_name.to_owned(),
        usage_name: String::new(),
        given_names: vec![given_name.to_owned()],
        birth_date: birth_date.to_owned(),
        sex: v1::Sex::Female as i32,
        birth_country: "99100".to_owned(),
        birth_commune: "35238".to_owned(),
    }
}

fn informed() -> Ground {
    Ground::LawRequest {
        notice: NoticeShown {
            version: 1,
            shown_at: crate::init::now(),
            channel: Channel::Online,
            language: Language::Fr,
        },
    }
}

fn by_consent() -> Ground {
    Ground::Consent { consent: None }
}

fn question(
    procedure: &str,
    subject: v1::Identity,
    attribute: &str,
    ground: &Ground,
) -> Result<v1::ExchangeRequest, Failure> {
    Ok(v1::ExchangeRequest {
        request_id: crate::cli::draw_request_id()?,
        agent: "unefois demo".to_owned(),
        recipient: String::new(),
        procedure: procedure.to_owned(),
        habilitation: String::new(),
        subject: Some(subject),
        attributes: vec![attribute.to_owned()],
        filters: Vec::new(),
        ground: Some(wire_ground(ground)),
        mandate_id: String::new(),
        via: Vec::new(),
        france_connect_token: String::new(),
    })
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(10));
    request
}

async fn ask(client: &Client, question: v1::ExchangeRequest) -> Result<v1::ExchangeResponse, Status> {
    Ok(client.exchange().exchange(within(question)).await?.into_inner())
}

/// Expects an answer whose first attribute has `status`, and tells it.
async fn answered(
    client: &Client,
    question: v1::ExchangeRequest,
    status: v1::AttributeStatus,
) -> Result<v1::ExchangeResponse, Failure> {
    let answer = ask(client, question).await?;
    say(indented(&crate::cli::answer_text(&answer)));
    match answer.attributes.first() {
        Some(attribute) if attribute.status == status as i32 => Ok(answer),
        Some(_) | None => Err(Failure::Failed("the demonstration went another way than it should".to_owned())),
    }
}

/// Expects a refusal with `reason`, and tells it.
async fn refused(client: &Client, question: v1::ExchangeRequest, reason: &str) -> Result<(), Failure> {
    let Err(status) = ask(client, question).await else {
        return Err(Failure::Failed("the broker answered what it should refuse".to_owned()));
    };
    say(indented(&format!("refused: {}", crate::cli::describe(&status))));
    let given = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    if status.code() == Code::PermissionDenied && given == reason {
        Ok(())
    } else {
        Err(Failure::Failed(format!("the broker refused for another reason than {reason}")))
    }
}

async fn connect(stage: &Stage, name: &str) -> Result<Client, Failure> {
    let profile = Profile::read(&stage.folder.profile(name))?;
    Ok(profile.connect().await?)
}

/// A client with a certificate that the registry does not know.
async fn stranger(stage: &Stage, name: &str, issued: &Issued) -> Result<Client, Failure> {
    let folder = stage.path().join("clients");
    let write = |ending: &str, text: &str| {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = folder.join(format!("{name}.{ending}"));
        let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| Failure::Failed(error.to_string()))
    };
    write("pem", &issued.certificate)?;
    write("key", &issued.private_key)?;
    let mut profile = Profile::read(&stage.folder.profile("ville"))?;
    profile.certificate = folder.join(format!("{name}.pem"));
    profile.private_key = folder.join(format!("{name}.key"));
    Ok(profile.connect().await?)
}

/// Tells the story.
pub(super) async fn tell(stage: &Stage) -> Result<(), Failure> {
    say(format!(
        "Unefois, a demonstration in {}\n\
         A broker with mutual TLS on loopback, a source in the shape of API Particulier, fictitious persons.",
        stage.path().display()
    ));
    let town_hall = connect(stage, "ville").await?;
    let department = connect(stage, "departement").await?;
    law_request(stage, &town_hall).await?;
    beyond_the_habilitation(&town_hall).await?;
    consent(&department).await?;
    strangers(stage).await?;
    missing(stage, &town_hall).await
}

async fn law_request(stage: &Stage, town_hall: &Client) -> Result<(), Failure> {
    heading(1, "Saint-Exemple asks Camille's family quotient, for the price of the canteen");
    say(
        "      ground LAW_REQUEST: Camille made a request and read notice 1 online; no consent is needed (CRPA L114-8)",
    );
    let question = question(CANTEEN, camille(), QUOTIENT, &informed())?;
    let answer = answered(town_hall, question, v1::AttributeStatus::Found).await?;
    say("      the source sent the whole family's file; the broker passed on one number and keeps none of it");
    let path = stage.path().join("receipt.json");
    std::fs::write(&path, &answer.receipt).map_err(|error| Failure::Failed(error.to_string()))?;
    say(format!("      receipt saved in {}", path.display()));
    Ok(())
}

async fn beyond_the_habilitation(town_hall: &Client) -> Result<(), Failure> {
    heading(2, "It asks the address too, which its habilitation does not cover");
    let question = question(CANTEEN, camille(), "dss.quotient_familial.adresse", &informed())?;
    refused(town_hall, question, "ATTRIBUTE_NOT_COVERED").await
}

async fn consent(department: &Client) -> Result<(), Failure> {
    heading(3, "The department asks the quotient on the ground CONSENT; Camille gave none");
    refused(department, question(ALLOWANCE, camille(), QUOTIENT, &by_consent())?, "CONSENT_MISSING").await?;

    heading(4, "Camille consents, for 90 days, for this attribute and this procedure");
    let expires = crate::init::now().plus(Duration::from_secs(90 * 24 * 60 * 60));
    let record = v1::RecordConsentRequest {
        agent: "unefois demo".to_owned(),
        subject: Some(camille()),
        terms: Some(v1::ConsentTerms {
            procedure: ALLOWANCE.to_owned(),
            attributes: vec![QUOTIENT.to_owned()],
            notice_version: 1,
            language: v1::Language::French as i32,
            expires_at: Some(wire_instant(expires)),
            r#use: v1::ConsentUse::Repeated as i32,
            ..v1::ConsentTerms::default()
        }),
        channel: v1::Channel::Online as i32,
        ..v1::RecordConsentRequest::default()
    };
    let granted = department.consent().record_consent(within(record)).await?.into_inner().consent.unwrap_or_default();
    say(indented(&crate::text::consent_text(&granted)));

    heading(5, "The department asks again");
    answered(department, question(ALLOWANCE, camille(), QUOTIENT, &by_consent())?, v1::AttributeStatus::Found).await?;

    heading(6, "Camille withdraws: one call, no reason, effective at once");
    let withdraw = v1::WithdrawConsentRequest { consent_id: granted.id };
    let withdrawn =
        department.consent().withdraw_consent(within(withdraw)).await?.into_inner().consent.unwrap_or_default();
    say(indented(&crate::text::consent_text(&withdrawn)));
    refused(department, question(ALLOWANCE, camille(), QUOTIENT, &by_consent())?, "CONSENT_WITHDRAWN").await
}

async fn strangers(stage: &Stage) -> Result<(), Failure> {
    heading(7, "A certificate of the right authority, whose key nobody enrolled");
    let issued = stage
        .folder
        .ca
        .issue_client("inconnu", Validity::Days(1))
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let unknown = stranger(stage, "inconnu", &issued).await?;
    refused(&unknown, question(CANTEEN, camille(), QUOTIENT, &informed())?, "NOT_ALLOWED").await?;

    heading(8, "A certificate of another authority");
    let other = DevelopmentCa::create("Another CA").and_then(|ca| ca.issue_client("etranger", Validity::Days(1)));
    let other = other.map_err(|error| Failure::Failed(error.to_string()))?;
    // TLS 1.3: the client learns of it at the handshake or at its first call.
    let outcome = match stranger(stage, "etranger", &other).await {
        Err(failure) => failure.message().to_owned(),
        Ok(client) => match ask(&client, question(CANTEEN, camille(), QUOTIENT, &informed())?).await {
            Err(status) => crate::cli::describe(&status),
            Ok(_) => return Err(Failure::Failed("the broker answered a stranger".to_owned())),
        },
    };
    say(indented(&format!("refused at the handshake: {outcome}")));
    Ok(())
}

async fn missing(stage: &Stage, town_hall: &Client) -> Result<(), Failure> {
    heading(
        9,
        "The source is down: the answer says what is missing, so that the town hall can ask for the supporting document",
    );
    stage.source.set_down(true);
    let answer =
        answered(town_hall, question(CANTEEN, camille(), QUOTIENT, &informed())?, v1::AttributeStatus::SourceDown)
            .await;
    stage.source.set_down(false);
    answer?;

    heading(10, "Two persons match at the source: nothing is picked");
    let twins = person("JUMEAUX", "Dominique", "1990-01-01");
    answered(town_hall, question(CANTEEN, twins, QUOTIENT, &informed())?, v1::AttributeStatus::Ambiguous).await?;
    Ok(())
}
