//! A plugin in this process that does what a test tells it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::transport::server::Router;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use unefois_proto::connector::v1::connector_service_server::{ConnectorService, ConnectorServiceServer};
use unefois_proto::connector::v1::{
    AttributeOutcome, DatasetDescription, DescribeRequest, DescribeResponse, FetchRequest, FetchResponse,
    FilterDescription, HandshakeRequest, HandshakeResponse, OutcomeCode,
};
use unefois_proto::value::to_wire;

use crate::testing::tls::Tls;

type Says = dyn Fn(&FetchRequest) -> Result<FetchResponse, Status> + Send + Sync;

pub(crate) struct Scripted {
    version: u32,
    datasets: Vec<String>,
    needs: Option<String>,
    hangs: bool,
    says: Box<Says>,
    asked: Mutex<Vec<(FetchRequest, Option<String>)>>,
    health: HealthReporter,
}

pub(super) fn found(name: &str, value: &serde_json::Value) -> AttributeOutcome {
    AttributeOutcome { name: name.to_owned(), code: OutcomeCode::Found.into(), value: Some(to_wire(value)) }
}

impl Scripted {
    /// Knows everybody, and answers what it was asked.
    pub(crate) fn new() -> Self {
        let says = |request: &FetchRequest| {
            let values = request.attributes.iter().map(|name| found(name, &format!("of {name}").into()));
            Ok(FetchResponse { attributes: values.collect(), reference: "ref-1".to_owned() })
        };
        Self {
            version: 1,
            datasets: vec![super::DATASET.to_owned()],
            needs: None,
            hangs: false,
            says: Box::new(says),
            asked: Mutex::default(),
            health: HealthReporter::new(),
        }
    }

    pub(super) fn says(
        mut self,
        says: impl Fn(&FetchRequest) -> Result<FetchResponse, Status> + Send + Sync + 'static,
    ) -> Self {
        self.says = Box::new(says);
        self
    }

    pub(super) fn hangs(mut self) -> Self {
        self.hangs = true;
        self
    }

    pub(super) fn speaks(mut self, version: u32) -> Self {
        self.version = version;
        self
    }

    pub(super) fn describes(mut self, datasets: &[&str]) -> Self {
        self.datasets = datasets.iter().map(|&dataset| dataset.to_owned()).collect();
        self
    }

    /// Needs this filter, and a token.
    pub(super) fn needs(mut self, filter: &str) -> Self {
        self.needs = Some(filter.to_owned());
        self
    }

    pub(crate) fn serve(self, socket: &Path) -> Arc<Self> {
        let listener = UnixListener::bind(socket).unwrap();
        let (plugin, server) = self.services(Server::builder());
        tokio::spawn(server.serve_with_incoming(UnixListenerStream::new(listener)));
        plugin
    }

    pub(super) async fn serve_tls(self, tls: &Tls) -> (Arc<Self>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (plugin, server) = self.services(Server::builder().tls_config(tls.server_config()).unwrap());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (plugin, address)
    }

    fn services(self, mut server: Server) -> (Arc<Self>, Router) {
        let health = tonic_health::pb::health_server::HealthServer::new(
            tonic_health::server::HealthService::from_health_reporter(self.health.clone()),
        );
        let plugin = Arc::new(self);
        let served = Served(Arc::clone(&plugin));
        let router = server.add_service(health).add_service(ConnectorServiceServer::new(served));
        let reporter = plugin.health.clone();
        tokio::spawn(async move {
            reporter.set_service_status(super::super::supervise::SERVICE, ServingStatus::Serving).await
        });
        (plugin, router)
    }

    pub(super) async fn set_well(&self, is_well: bool) {
        let status = if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.health.set_service_status(super::super::supervise::SERVICE, status).await;
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The newest question, and how long its asker said that it waits.
    pub(super) fn last(&self) -> (FetchRequest, Option<String>) {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

struct Served(Arc<Scripted>);

#[tonic::async_trait]
impl ConnectorService for Served {
    async fn handshake(&self, request: Request<HandshakeRequest>) -> Result<Response<HandshakeResponse>, Status> {
        assert_eq!(request.into_inner().protocol_versions, [1]);
        Ok(Response::new(HandshakeResponse { protocol_version: self.0.version, software: "scripted/1".to_owned() }))
    }

    async fn describe(&self, _: Request<DescribeRequest>) -> Result<Response<DescribeResponse>, Status> {
        let filter = |name: &str, required| FilterDescription { name: name.to_owned(), required };
        let datasets = self.0.datasets.iter().map(|dataset| DatasetDescription {
            dataset: dataset.clone(),
            version: "3".to_owned(),
            attributes: ["licence", "club"].map(str::to_owned).to_vec(),
            filters: vec![filter("saison", self.0.needs.is_some())],
            repeatable: true,
            needs_access_token: self.0.needs.is_some(),
        });
        Ok(Response::new(DescribeResponse { datasets: datasets.collect() }))
    }

    async fn fetch(&self, request: Request<FetchRequest>) -> Result<Response<FetchResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout").map(|value| value.to_str().unwrap().to_owned());
        let message = request.into_inner();
        self.0.asked.lock().unwrap().push((message.clone(), timeout));
        if self.0.hangs {
            std::future::pending::<()>().await;
        }
        (self.0.says)(&message).map(Response::new)
    }
}
