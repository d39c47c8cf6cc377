//! What stands beside Flight: health for load balancers and orchestrators, reflection for tools such as
//! grpcurl.

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::sync::watch;
use tonic_health::{
    ServingStatus,
    pb::health_server::{Health, HealthServer},
    server::{HealthReporter, health_reporter},
};
use tonic_reflection::server::{Builder, v1, v1alpha};

use crate::{
    engine::Condition,
    flight::Flight,
    readiness::{Phase, Readiness},
};

/// The names that health is asked by: the server as a whole, and Flight.
const NAMES: [&str; 2] = ["", <FlightServiceServer<Flight> as tonic::server::NamedService>::NAME];

/// Says whether the server serves.
#[derive(Clone)]
pub(crate) struct Reporter {
    grpc: HealthReporter,
    readiness: Readiness,
}

/// The health service, which says that all is well, and the means to say something else.
pub(crate) async fn health(readiness: Readiness) -> (Reporter, HealthServer<impl Health>) {
    let (reporter, service) = health_reporter();
    let reporter = Reporter { grpc: reporter, readiness };
    reporter.says(true).await;
    (reporter, service)
}

impl Reporter {
    /// Says whether the server serves, for as long as the database fails and is opened again; returns when it
    /// is lost, with the reason.
    pub(crate) async fn follow(&self, mut condition: watch::Receiver<Condition>) -> String {
        loop {
            let now = condition.borrow_and_update().clone();
            self.says(now == Condition::Open).await;
            if let Condition::Lost(reason) = now {
                return reason;
            }
            if condition.changed().await.is_err() {
                // The engine is gone, and with it the server; there is nothing left to say.
                return std::future::pending().await;
            }
        }
    }

    async fn says(&self, serves: bool) {
        let (status, phase) = match serves {
            true => (ServingStatus::Serving, Phase::Serving),
            false => (ServingStatus::NotServing, Phase::Down),
        };
        self.readiness.enter(phase);
        for name in NAMES {
            self.grpc.set_service_status(name, status).await;
        }
    }

    /// Tells everybody who watches that the server stops serving, and ends their streams: one that stays
    /// open would hold up the stop.
    pub(crate) async fn stopping(mut self) {
        self.readiness.enter(Phase::Stopping);
        for name in NAMES {
            self.grpc.set_service_status(name, ServingStatus::NotServing).await;
            self.grpc.clear_service_status(name).await;
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
