//! Health and reflection, beside Flight.

use futures::{StreamExt, stream};
use merganser_server::config::{PasswordHash, User};
use merganser_tests::{TestServer, soon};
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

const FLIGHT: &str = "arrow.flight.protocol.FlightService";

async fn server_with_a_user() -> TestServer {
    TestServer::with(|config| {
        config.security.users =
            vec![User { name: "ana".into(), password: PasswordHash::of("secret").unwrap() }];
    })
    .await
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_healthy_for_whoever_asks() {
    let server = server_with_a_user().await;
    let mut health = HealthClient::new(server.channel().await);
    for service in ["", FLIGHT] {
        let answer = health.check(about(service)).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let unknown = health.check(about("nothing")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_learns_of_a_stop_and_does_not_hold_it_up() {
    let server = TestServer::start().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut statuses = health.watch(about(FLIGHT)).await.unwrap().into_inner();
    let first = soon("a status", statuses.next()).await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);
    let watching = tokio::spawn(async move {
        let next = statuses.next().await.unwrap().unwrap();
        (next.status(), statuses.next().await.is_none())
    });
    // Shorter than the drain time, which a stream that stays open would take.
    server.shutdown().await;
    assert_eq!(soon("the end", watching).await.unwrap(), (ServingStatus::NotServing, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_flight_and_health() {
    let server = TestServer::start().await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let questions =
        [MessageRequest::ListServices(String::new()), MessageRequest::FileContainingSymbol(FLIGHT.into())];
    let questions = questions
        .map(|question| ServerReflectionRequest { host: String::new(), message_request: Some(question) });
    let answers = reflection.server_reflection_info(stream::iter(questions)).await.unwrap().into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.unwrap().message_response.unwrap()).collect().await;
    let [MessageResponse::ListServicesResponse(services), MessageResponse::FileDescriptorResponse(files)] =
        &answers[..]
    else {
        panic!("other answers: {answers:?}");
    };
    let mut names: Vec<_> = services.service.iter().map(|service| service.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [FLIGHT, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"]);
    let file = FileDescriptorProto::decode(&files.file_descriptor_proto[0][..]).unwrap();
    assert_eq!(file.service[0].method.len(), 10);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_needs_a_log_in_where_there_are_users() {
    let server = server_with_a_user().await;
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let question = ServerReflectionRequest::default();
    let refusal = reflection.server_reflection_info(stream::iter([question])).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unauthenticated);
    server.shutdown().await;
}
