//! The body of a request on its way to tonic, which keeps a message until all of it is there, as many as there are
//! streams, and as long as that takes. So before a message is let in, there must be room for it in the memory for
//! uploads; as long as there is none, HTTP/2's flow control holds its sender back. And one that has begun must come
//! within the patience for those who stall.

use std::{
    mem,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::Request;
use http_body::{Body as HttpBody, Frame};
use tokio::time::{Instant, Sleep};
use tonic::{Status, body::Body};

use super::{
    authenticate::brings_credentials,
    delivered::{Delivered, Refusal},
    error::{bad_request, engine_status},
    framing::{Beginning, Framing},
};
use crate::{
    engine::{Arriving, Engine, Error, Share},
    network::Peer,
};

/// Messages up to this size need no room: uploads that take all of it keep nobody from asking. A call has no more of
/// them here than one frame holds.
const SMALL_BYTES: usize = 16 << 10;

/// The methods whose messages are rows; what these hold is theirs until the rows are written.
const UPLOADS: [&str; 2] =
    ["/arrow.flight.protocol.FlightService/DoPut", "/arrow.flight.protocol.FlightService/DoExchange"];

/// Lets the messages of a request in as there is room for them. Those over `largest` are refused behind this.
pub(crate) fn let_in(engine: &Engine, largest: usize, mut request: Request<Body>) -> Request<Body> {
    let sender = request.extensions().get::<Peer>().map_or(0, |peer| peer.connection.id().0);
    let (arriving, patience) = (engine.arriving(sender), Patience::of(engine.stall_timeout()));
    let holder = match request.uri().path() {
        path if UPLOADS.contains(&path) => {
            let delivered = Delivered::from(arriving.clone());
            request.extensions_mut().insert(delivered.clone());
            Holder::Reader(delivered)
        }
        path if brings_credentials(path) => Holder::Body(None),
        _ => Holder::Nobody,
    };
    request.map(|body| Body::new(Incoming::new(body, arriving, largest, patience, holder)))
}

/// Who holds the memory of a message.
enum Holder {
    /// Whoever reads it.
    Reader(Delivered),
    /// The body, until the next message.
    Body(Option<Share>),
    /// Nobody: strangers send small messages only, or they could take all the room by a few bytes that announce more.
    Nobody,
}

struct Incoming {
    body: Body,
    framing: Framing,
    /// What was read and not yet passed on,
    rest: Bytes,
    /// of which so many bytes have been looked through.
    seen: usize,
    /// The length of the message with which that begins, if it needs room and has none yet,
    large: Option<usize>,
    /// and the wait for it.
    waiting: Option<BoxFuture<'static, Result<Share, Error>>>,
    arriving: Arriving,
    largest: usize,
    patience: Patience,
    holder: Holder,
}

impl Incoming {
    fn new(body: Body, arriving: Arriving, largest: usize, patience: Patience, holder: Holder) -> Self {
        let (framing, rest) = (Framing::default(), Bytes::new());
        Self { body, framing, rest, seen: 0, large: None, waiting: None, arriving, largest, patience, holder }
    }

    /// What may be passed on of what was read: all up to the first message that needs room. By the time it is asked for,
    /// the ones before have been read: room that is taken ahead of its turn would be missing to them.
    fn pass_on(&mut self) -> Option<Bytes> {
        while let Some(Beginning { from, to, length }) = self.framing.next(&self.rest[self.seen..]) {
            let head = self.seen + from;
            self.seen += to;
            self.patience.begin();
            if length > SMALL_BYTES && length <= self.largest {
                self.large = Some(length);
                self.seen -= head;
                return Some(self.rest.split_to(head)).filter(|front| !front.is_empty());
            }
            self.hold(None);
        }
        self.seen = 0;
        Some(mem::take(&mut self.rest)).filter(|all| !all.is_empty())
    }

    /// Gets room for the message with which the rest begins.
    fn poll_let_in(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        let Some(length) = self.large else { return Poll::Ready(Ok(())) };
        match &mut self.holder {
            Holder::Reader(_) => {}
            // The message before is complete.
            Holder::Body(held) => *held = None,
            Holder::Nobody => return Poll::Ready(Err(self.refuse(Refusal::TooLarge))),
        }
        let begins = self.waiting.is_none();
        let waiting = self.waiting.get_or_insert_with(|| self.arriving.clone().take(length).boxed());
        let Poll::Ready(room) = waiting.as_mut().poll(context) else {
            if let Holder::Reader(delivered) = &self.holder
                && begins
            {
                delivered.wait();
            }
            return Poll::Pending;
        };
        (self.large, self.waiting) = (None, None);
        match room {
            Ok(room) => self.hold(Some(room)),
            Err(_) => return Poll::Ready(Err(self.refuse(Refusal::NoRoom))),
        }
        Poll::Ready(Ok(()))
    }

    fn hold(&mut self, room: Option<Share>) {
        match &mut self.holder {
            Holder::Reader(delivered) => delivered.begin(room),
            Holder::Body(held) => *held = room,
            Holder::Nobody => {}
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> Status {
        if let Holder::Reader(delivered) = &self.holder {
            delivered.refuse(refusal, mem::take(&mut self.body));
        }
        engine_status(refusal.into())
    }
}

impl HttpBody for Incoming {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        loop {
            if let Err(status) = ready!(this.poll_let_in(context)) {
                return Poll::Ready(Some(Err(status)));
            }
            if let Some(bytes) = this.pass_on() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.large.is_some() {
                continue;
            }
            let Poll::Ready(frame) = pin!(&mut this.body).poll_frame(context) else {
                if !this.framing.is_within() {
                    return Poll::Pending;
                }
                ready!(this.patience.poll_out(context));
                let refusal = Refusal::Stalled(this.patience.all);
                return Poll::Ready(Some(Err(this.refuse(refusal))));
            };
            this.patience.heard();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                // tonic does not see it where nothing but the head has come.
                None if this.framing.is_within() => {
                    let cut = bad_request("BAD_MESSAGE", "the request ends in the middle of a message");
                    return Poll::Ready(Some(Err(cut)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

/// How long a message may take to come. Only the time counts in which its sender is waited for: what waits for room, or
/// for its reader, is nobody's silence.
struct Patience {
    all: Duration,
    left: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn of(all: Duration) -> Self {
        Self { all, left: all, since: None, timer: None }
    }

    /// A message begins.
    fn begin(&mut self) {
        self.left = self.all;
    }

    /// Something has come.
    fn heard(&mut self) {
        if let Some(since) = self.since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
    }

    /// Ready when it has run out; nothing has come just now.
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let (left, new) = (self.left, self.since.is_none());
        let until = *self.since.get_or_insert_with(Instant::now) + left;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if new {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(context)
    }
}
