//! A collector of OpenTelemetry, for one test.

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Keeps what it is sent over OTLP/gRPC.
pub(super) struct Collector {
    pub(super) endpoint: String,
    received: Received,
}

#[derive(Default, Clone)]
struct Received(Arc<Mutex<Vec<ResourceSpans>>>);

impl Collector {
    /// Listens on a thread of its own until the process ends, so that it answers while a
    /// test blocks its only thread.
    pub(super) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Received::default();
        let server = Server::builder().add_service(TraceServiceServer::new(received.clone()));
        let serving = server.serve_with_incoming(TcpIncoming::from(listener));
        std::thread::spawn(move || runtime.block_on(serving));
        Self { endpoint, received }
    }

    /// The spans of a service.
    pub(super) fn spans_of(&self, service: &str) -> Vec<Span> {
        let received = self.received.0.lock().unwrap();
        let of_service = received.iter().filter(|spans| is_of(spans.resource.as_ref(), service));
        of_service.flat_map(|spans| &spans.scope_spans).flat_map(|spans| spans.spans.clone()).collect()
    }
}

fn is_of(resource: Option<&Resource>, service: &str) -> bool {
    let name = |resource: &Resource| {
        let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name")?;
        name.value.clone()?.value
    };
    resource.and_then(name) == Some(Value::StringValue(service.to_owned()))
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().extend(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
