//! A proxy before the server, which loses answers: the server has done what was asked, and the client does not hear it.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use tonic::{
    body::Body,
    codegen::{BoxFuture, Context, Poll, Service, http},
    server::NamedService,
};

/// HTTP statuses in place of the next answers to uploads; 200 stands for an answer without a gRPC status.
pub(crate) type Lost = Arc<Mutex<VecDeque<u16>>>;

#[derive(Clone)]
pub(crate) struct Gateway<S> {
    pub(crate) service: S,
    pub(crate) lost: Lost,
}

impl<S> Service<http::Request<Body>> for Gateway<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let is_upload = request.uri().path().ends_with("/DoPut");
        let lost = is_upload.then(|| self.lost.lock().unwrap().pop_front()).flatten();
        let answer = self.service.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let Some(status) = lost else { return Ok(answer) };
            let answer = http::Response::builder().status(status).header("content-type", "application/grpc");
            Ok(answer.body(Body::empty()).unwrap())
        })
    }
}

impl<S: NamedService> NamedService for Gateway<S> {
    const NAME: &'static str = S::NAME;
}
