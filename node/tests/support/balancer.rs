//! What stands before gateways: each connection goes to the first of them that takes it.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

pub struct Balancer {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Balancer {
    pub async fn before(gateways: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, gateways.clone()));
            }
        });
        Self { address, task }
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: TcpStream, gateways: Vec<SocketAddr>) {
    for gateway in gateways {
        if let Ok(mut gateway) = TcpStream::connect(gateway).await {
            // Either side may hang up, which ends it.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut gateway).await;
            return;
        }
    }
}
