//! The same over TCP: no socket is left. Counted by what the system says of this process, where it does.
use std::collections::HashSet;
use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::crew::{Crew, STATES, cluster};
use crate::*;

/// Sockets of this process that are connected to or from these ports.
fn sockets(ports: &[u16]) -> usize {
    let (Ok(table), Ok(open)) = (fs::read_to_string("/proc/self/net/tcp"), fs::read_dir("/proc/self/fd"))
    else {
        return 0;
    };
    let open: HashSet<String> = open
        .filter_map(|file| Some(fs::read_link(file.ok()?.path()).ok()?.to_string_lossy().into_owned()))
        .collect();
    let port =
        |address: &str| u16::from_str_radix(address.rsplit(':').next().unwrap_or_default(), 16).unwrap_or(0);
    let is_ours = |row: &&str| {
        // Number, own address, the peer's, state, ..., and in the tenth column what the file descriptor links to.
        let row: Vec<&str> = row.split_whitespace().collect();
        let listens = row[3] == "0A";
        !listens
            && ports.iter().any(|ours| [port(row[1]), port(row[2])].contains(ours))
            && open.contains(&format!("socket:[{}]", row[9]))
    };
    table.lines().skip(1).filter(is_ours).count()
}

fn ports(addresses: &str) -> Vec<u16> {
    addresses.split(',').map(|address| address.rsplit(':').next().unwrap().parse().unwrap()).collect()
}

#[test]
fn neither_drop_nor_close_leaves_a_socket() {
    let one = Builder::new_current_thread().enable_all().build().unwrap();
    let two = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for runtime in [one, two] {
        runtime.block_on(async {
            for (state, close) in STATES.iter().flat_map(|state| [(*state, false), (*state, true)]) {
                let broker = cluster(Broker::builder()).await;
                let ports = ports(&broker.address());
                let of_the_broker = alive();
                let client = within(Client::connect(&broker.address())).await.unwrap();
                let crew = within(Crew::new(client.clone(), Duration::from_secs(20))).await;
                let (held, waiters) = within(crew.hold(&broker, state)).await;
                assert!(
                    sockets(&ports) > 1 || fs::metadata("/proc/self/net/tcp").is_err(),
                    "none is counted"
                );
                if close {
                    within(client.close()).await;
                }
                drop((held, client));
                waiters.end(&broker).await;
                until("no socket is left", || sockets(&ports) == 0).await;
                until("no task is left", || alive() == of_the_broker).await;
                drop(broker);
                until("the broker ends", || alive() == 0).await;
            }
        });
    }
}

/// It accepts, as its system does by itself, and never says a word.
#[tokio::test]
async fn a_client_that_is_given_up_while_the_node_is_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connects = tokio::spawn(async move { Client::connect(&address.to_string()).await });
    let counted = fs::metadata("/proc/self/net/tcp").is_ok();
    until("it is connected", || sockets(&[address.port()]) == usize::from(counted)).await;
    connects.abort();
    assert!(connects.await.unwrap_err().is_cancelled());
    until("no socket is left", || sockets(&[address.port()]) == 0).await;
    until("no task is left", || alive() == 0).await;
}
