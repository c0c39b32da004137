//! A road to a server, which can be cut and mended.

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// Carries connections on to a server's port while it is whole. Cut, it resets them all, and its
/// own port refuses more.
pub(crate) struct Road {
    port: u16,
    to: u16,
    traffic: Option<JoinHandle<()>>,
}

impl Road {
    pub(crate) async fn to(port: u16) -> Self {
        Self::from("127.0.0.1:0", port).await
    }

    /// One that begins at this address.
    pub(crate) async fn from(address: &str, to: u16) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self {
            port: listener.local_addr().unwrap().port(),
            to,
            traffic: Some(tokio::spawn(carry(listener, to))),
        }
    }

    pub(crate) fn conn_info(&self, database: &str) -> String {
        format!("host=127.0.0.1 port={} dbname={database}", self.port)
    }

    pub(crate) async fn cut(&mut self) {
        if let Some(traffic) = self.traffic.take() {
            traffic.abort();
            // It is over, with all that it held, when this returns.
            let _ = traffic.await;
        }
    }

    pub(crate) async fn mend(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.traffic = Some(tokio::spawn(carry(listener, self.to)));
    }
}

async fn carry(listener: TcpListener, to: u16) {
    let mut travellers = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        client.set_zero_linger().unwrap();
        travellers.spawn(async move {
            let mut server = TcpStream::connect(("127.0.0.1", to)).await?;
            copy_bidirectional(&mut client, &mut server).await
        });
        while travellers.try_join_next().is_some() {}
    }
}

impl Drop for Road {
    fn drop(&mut self) {
        if let Some(traffic) = &self.traffic {
            traffic.abort();
        }
    }
}
