//! A source that answers in the shape of API Particulier. Its persons are fictitious and the project's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::cli::Failure;

/// The token that the source wants.
pub(super) const TOKEN: &str = "demo-token";

/// The running source. It ends with the process.
pub(crate) struct Source {
    address: SocketAddr,
    down: Arc<AtomicBool>,
}

impl Source {
    /// Starts on a free port of loopback.
    pub(super) async fn start() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::Failed(format!("the demo's source: {error}"));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let down = Arc::new(AtomicBool::new(false));
        let router =
            Router::new().route("/v3/dss/quotient_familial/identite", get(quotient)).with_state(Arc::clone(&down));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, down })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes the source down, or brings it back.
    pub(super) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }
}

async fn quotient(
    State(down): State<Arc<AtomicBool>>,
    headers: HeaderMap,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    if down.load(Ordering::SeqCst) {
        return error(StatusCode::GATEWAY_TIMEOUT, "37002", "Intermédiaire hors-délai");
    }
    let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token != Some(format!("Bearer {TOKEN}").as_str()) {
        return error(StatusCode::UNAUTHORIZED, "00101", "Interdit");
    }
    let name = query.iter().find(|(key, _)| key == "nomNaissance").map_or("", |(_, value)| value.as_str());
    match name {
        "MARCHAND" => (StatusCode::OK, [("x-request-id", "demo-7a41")], Json(marchand())).into_response(),
        "JUMEAUX" => error(StatusCode::CONFLICT, "37015", "Plusieurs ressources correspondent aux critères"),
        _ => error(StatusCode::NOT_FOUND, "37003", "Dossier allocataire absent CNAV"),
    }
}

/// A whole file: the broker passes on only what was asked.
fn marchand() -> Value {
    json!({
        "data": {
            "quotient_familial": {
                "fournisseur": "CNAF", "valeur": 742, "annee": 2026, "mois": 9, "annee_calcul": 2026, "mois_calcul": 9
            },
            "allocataires": [{
                "nom_naissance": "MARCHAND", "nom_usage": null, "prenoms": "CAMILLE",
                "date_naissance": "1988-04-17", "sexe": "F"
            }],
            "enfants": [{
                "nom_naissance": "MARCHAND", "nom_usage": null, "prenoms": "LOUISON",
                "date_naissance": "2018-02-11", "sexe": "F"
            }],
            "adresse": {
                "destinataire": "Madame MARCHAND Camille", "complement_information": null,
                "complement_information_geographique": null, "numero_libelle_voie": "3 RUE DE L'EXEMPLE",
                "lieu_dit": null, "code_postal_ville": "35000 RENNES", "pays": "FRANCE"
            }
        },
        "links": {},
        "meta": {}
    })
}

fn error(status: StatusCode, code: &str, title: &str) -> Response {
    let body = json!({ "errors": [{ "code": code, "title": title, "detail": title, "source": null, "meta": {} }] });
    (status, [(CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string()).into_response()
}
