//! One end of a simulated connection, as tonic takes it.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use super::net::Net;

/// One end of a connection.
pub struct Stream {
    net: Net,
    me: u64,
    writes: u64,
}

impl Stream {
    /// The end at host `me` that writes to that pipe.
    pub fn new(net: Net, me: u64, writes: u64) -> Self {
        Self { net, me, writes }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut inner = self.net.inner();
        if !inner.dark.contains(&self.me) {
            inner.send(self.writes, None);
        }
        inner.leave(self.writes);
        inner.leave(self.writes ^ 1);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = self.net.inner();
        let pipe = inner.pipes.get_mut(&(self.writes ^ 1)).expect("held by this end");
        if pipe.is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.arrived.is_empty() && !pipe.has_ended {
            pipe.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = buf.remaining().min(pipe.arrived.len());
        let bytes: Vec<u8> = pipe.arrived.drain(..count).collect();
        buf.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.net.inner();
        if inner.pipes[&self.writes].is_broken {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        inner.send(self.writes, Some(bytes.to_vec()));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.inner().send(self.writes, None);
        Poll::Ready(Ok(()))
    }
}

impl Connected for Stream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}
