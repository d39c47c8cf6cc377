//! What stands beside Flight: health for load balancers and orchestrators, reflection for tools such as
//! grpcurl.

use arrow_flight::flight_service_server::FlightServiceServer;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};
use tonic_reflection::server::{Builder, v1, v1alpha};

use crate::flight::Flight;

/// The names that health is asked by: the server as a whole, and Flight.
const NAMES: [&str; 2] = ["", <FlightServiceServer<Flight> as tonic::server::NamedService>::NAME];

/// Says whether the server serves.
pub(crate) struct Reporter(HealthReporter);

/// The health service, which says that all is well, and the means to say something else.
pub(crate) async fn health() -> (Reporter, HealthServer<impl Health>) {
    let (reporter, service) = health_reporter();
    for name in NAMES {
        reporter.set_service_status(name, ServingStatus::Serving).await;
    }
    (Reporter(reporter), service)
}

impl Reporter {
    /// Tells everybody who watches that the server stops serving, and ends their streams: one that stays
    /// open would hold up the stop.
    pub(crate) async fn stopping(mut self) {
        for name in NAMES {
            self.0.set_service_status(name, ServingStatus::NotServing).await;
            self.0.clear_service_status(name).await;
        }
    }
}

/// The reflection service in both of its versions: many tools still ask for the older one.
///
/// # Panics
/// When the descriptors are broken, which they are not: a test of `merganser-proto` makes them.
#[allow(clippy::expect_used, reason = "the descriptors are constants")]
pub(crate) fn reflection() -> (
    v1::ServerReflectionServer<impl v1::ServerReflection>,
    v1alpha::ServerReflectionServer<impl v1alpha::ServerReflection>,
) {
    let descriptors = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(merganser_proto::FLIGHT_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = descriptors().build_v1().expect("the descriptors are whole");
    let v1alpha = descriptors().build_v1alpha().expect("the descriptors are whole");
    (v1, v1alpha)
}
