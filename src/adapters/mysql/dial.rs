//! One plain thread on which connections to MySQL are opened and broken ones are let go.
//!
//! mysql_async says goodbye for a connection that is dropped inside a tokio runtime, by spawning a
//! task. Dropped half-way through a TLS handshake (a time-out, a bad certificate) that task finds
//! no stream and panics, which ends a process built with `panic = "abort"`; dropped in the middle
//! of a result it reads on, for ever if the server hangs. On a thread without a runtime it just
//! closes the socket. So the futures that open connections are polled here; only their first poll,
//! which makes the socket, happens inside the runtime it belongs to.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use mysql_async::{Conn, Opts};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};

type Job = BoxFuture<'static, ()>;

/// Opens a connection: TCP, greeting, TLS and authentication, all within `limit`. `None`: it was
/// not open in time. The address in `opts` must be resolved already, to one address.
pub(super) async fn connect(opts: Opts, limit: Duration) -> Option<mysql_async::Result<Conn>> {
    let (mut sender, receiver) = oneshot::channel();
    let mut opening = OpenedIn { runtime: Some(Handle::current()), opening: Conn::new(opts) };
    let job = async move {
        let opened = std::future::poll_fn(|context| match sender.poll_closed(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut opening).poll(context).map(Some),
        });
        if let Some(opened) = opened.await {
            drop(sender.send(opened));
        }
    };
    thread_for().send(Box::pin(job)).expect("the dialing thread runs as long as the process");
    match timeout(limit, receiver).await {
        Ok(Ok(opened)) => Some(opened),
        Ok(Err(_)) | Err(_) => None,
    }
}

/// Closes a connection at once, whatever it was in the middle of.
pub(super) fn let_go(conn: Conn) {
    let job = async move { drop(conn) };
    thread_for().send(Box::pin(job)).expect("the dialing thread runs as long as the process");
}

/// Polled inside the runtime the first time and outside of it afterwards.
struct OpenedIn<F> {
    runtime: Option<Handle>,
    opening: F,
}

impl<F: Future + Unpin> Future for OpenedIn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let runtime = self.runtime.take();
        let _guard = runtime.as_ref().map(Handle::enter);
        Pin::new(&mut self.opening).poll(context)
    }
}

fn thread_for() -> &'static mpsc::UnboundedSender<Job> {
    static JOBS: OnceLock<mpsc::UnboundedSender<Job>> = OnceLock::new();
    JOBS.get_or_init(|| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let named = thread::Builder::new().name("mysql-dial".into());
        named.spawn(move || work(receiver)).expect("start a thread");
        sender
    })
}

fn work(mut jobs: mpsc::UnboundedReceiver<Job>) {
    let mut running: FuturesUnordered<Job> = FuturesUnordered::new();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        while let Poll::Ready(Some(job)) = jobs.poll_recv(&mut context) {
            running.push(job);
        }
        while let Poll::Ready(Some(())) = running.poll_next_unpin(&mut context) {}
        thread::park();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
