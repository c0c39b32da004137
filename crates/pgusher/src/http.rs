//! The HTTP endpoint: metrics, health and the status page, for whoever reaches it to read.
//!
//! It runs on control's thread, which has little else to do. Connections are few, and none lasts:
//! one request each, within a few seconds. When there are too many the oldest makes room, so that
//! whoever holds connections open keeps nobody else out.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use admin::{METRICS_TYPE, STATUS_PAGE, STATUS_POLICY};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use net::listen::{Accepted, ListenOptions, addresses};
use net::stream::Parked;
use net::{Listener, Watched};
use settings::Settings;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use crate::pooler::Pooler;

/// Connections to one address at a time.
const CONNECTIONS: usize = 32;

/// Longest time that the head of a request may take.
const HEAD: Duration = Duration::from_secs(5);

/// Longest time that a connection may take in all.
const LIFETIME: Duration = Duration::from_secs(15);

/// Most bytes of a request that are kept.
const REQUEST_LEN_MAX: usize = 16 * 1024;

/// Connections that the kernel keeps waiting for us.
const BACKLOG: i32 = 256;

/// How long a worker may take to say that it turns.
const TURN: Duration = Duration::from_secs(2);

/// Pause after a failed accept: mostly we are out of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// The endpoint's sockets.
pub(crate) struct Endpoint {
    listeners: Vec<Listener>,
}

impl Endpoint {
    /// Listens where the settings say. An address that can't be had is a warning: clients are
    /// served all the same.
    pub(crate) async fn open(settings: &Settings) -> Self {
        let options = ListenOptions {
            backlog: BACKLOG,
            reuse_port: false,
            keepalive: None,
        };
        let port = settings.metrics_port;
        let mut listeners = Vec::new();
        for entry in settings.metrics_listen_addr.iter().filter(|_| port != 0) {
            let found = addresses(entry, port).await.unwrap_or_else(|error| {
                tracing::warn!(name: "cannot_listen", "cannot listen on {entry} for metrics: {error}");
                Vec::new()
            });
            for addr in found {
                match Listener::tcp(addr, &options) {
                    Ok(listener) => {
                        tracing::info!(name: "listening", "metrics at http://{addr}/metrics");
                        listeners.push(listener);
                    }
                    Err(error) => {
                        tracing::warn!(name: "cannot_listen", "cannot listen on {addr} for metrics: {error}");
                    }
                }
            }
        }
        Self { listeners }
    }

    /// No sockets.
    pub(crate) fn none() -> Self {
        Self {
            listeners: Vec::new(),
        }
    }

    /// Answers requests from now on, for as long as the process lives or until it closes.
    pub(crate) fn start(self, pooler: &Rc<Pooler>) {
        if !self.listeners.is_empty() {
            tokio::task::spawn_local(pooler.clone().keep_history());
        }
        for listener in self.listeners {
            let task = tokio::task::spawn_local(take_in(listener, pooler.clone()));
            pooler.endpoint.borrow_mut().push(task);
        }
    }

    /// Lets the sockets go.
    pub(crate) async fn close(pooler: &Pooler) {
        let tasks = pooler.endpoint.take();
        for task in tasks {
            task.abort();
            // Over is all that matters.
            let _ = task.await;
        }
    }
}

async fn take_in(listener: Listener, pooler: Rc<Pooler>) {
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let watched = match Watched::new(listener.into()) {
        Ok(watched) => watched,
        Err(error) => {
            tracing::warn!(name: "cannot_listen", "cannot listen for metrics: {error}");
            return;
        }
    };
    loop {
        match watched.accept().await.and_then(tcp_of) {
            Ok(tcp) => {
                open.retain(|connection| !connection.is_finished());
                if open.len() >= CONNECTIONS
                    && let Some(oldest) = open.pop_front()
                {
                    oldest.abort();
                }
                let connection = tokio::task::spawn_local(converse(tcp, pooler.clone()));
                open.push_back(connection.abort_handle());
            }
            Err(error) => {
                tracing::warn!(name: "accept_failed", "accept failed for metrics: {error}");
                watched.rest(BREATH).await;
            }
        }
    }
}

/// The connection as hyper wants it.
fn tcp_of(accepted: Accepted) -> io::Result<TcpStream> {
    match accepted.socket {
        Parked::Tcp(tcp) => TcpStream::from_std(tcp),
        // This listener takes nothing else.
        Parked::Unix(_) | Parked::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

async fn converse(tcp: TcpStream, pooler: Rc<Pooler>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pooler = pooler.clone();
        async move { Ok::<_, Infallible>(answer(&pooler, request.method(), request.uri().path()).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(REQUEST_LEN_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(tcp), service);
    // Whoever breaks off, talks nonsense or takes too long has had its chance.
    let _ = tokio::time::timeout(LIFETIME, serving).await;
}

async fn answer(pooler: &Rc<Pooler>, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = page(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "read only\n");
        let allowed = HeaderValue::from_static("GET, HEAD");
        refusal.headers_mut().insert(ALLOW, allowed);
        return refusal;
    }
    match path {
        "/" => {
            let mut page = page(StatusCode::OK, HTML, STATUS_PAGE);
            let policy = HeaderValue::from_static(STATUS_POLICY);
            page.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            page
        }
        "/status.json" => page(StatusCode::OK, JSON, pooler.status().await),
        "/metrics" => page(StatusCode::OK, METRICS_TYPE, pooler.metrics().await),
        "/livez" => match tokio::time::timeout(TURN, pooler.workers_turn()).await {
            Ok(()) => page(StatusCode::OK, PLAIN, "alive\n"),
            Err(_) => page(
                StatusCode::SERVICE_UNAVAILABLE,
                PLAIN,
                "a worker does not turn\n",
            ),
        },
        "/readyz" => {
            let readiness = pooler.readiness().await;
            let status = match readiness.is_ready() {
                true => StatusCode::OK,
                false => StatusCode::SERVICE_UNAVAILABLE,
            };
            page(status, JSON, readiness.json())
        }
        _ => page(StatusCode::NOT_FOUND, PLAIN, "no such page\n"),
    }
}

fn page(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
