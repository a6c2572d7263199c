//! Handshakes under way, which anybody may begin: so many in all and so many of one address. Beyond, the oldest makes room: one that
//! is honest is over in a moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Most of them in all; each holds a socket and some 20 KB.
const MOST: usize = 2_048;
/// Most of one address.
const MOST_OF_ADDRESS: usize = 128;

/// Those under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By number: whose they are, and what ends them.
    begun: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    by_address: HashMap<IpAddr, BTreeSet<u64>>,
}

/// One of them; dropping it makes room.
#[derive(Debug)]
pub(super) struct UnderWay {
    all: Arc<Handshakes>,
    number: u64,
    ended: oneshot::Receiver<()>,
}

impl Handshakes {
    /// One more begins, of `address`.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr) -> UnderWay {
        let (address, (end, ended)) = (network(address), oneshot::channel());
        let mut table = self.lock();
        let own = table.by_address.get(&address).filter(|own| own.len() >= MOST_OF_ADDRESS);
        let oldest = match own {
            Some(own) => own.first().copied(),
            None if table.begun.len() >= MOST => table.begun.keys().next().copied(),
            None => None,
        };
        // To drop its sender ends it.
        oldest.into_iter().for_each(|oldest| table.remove(oldest));
        let number = table.next;
        table.next += 1;
        table.begun.insert(number, (address, end));
        table.by_address.entry(address).or_default().insert(number);
        drop(table);
        UnderWay { all: Arc::clone(self), number, ended }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn remove(&mut self, number: u64) {
        let Some((address, _)) = self.begun.remove(&number) else { return };
        if let Some(own) = self.by_address.get_mut(&address) {
            own.remove(&number);
            if own.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

impl UnderWay {
    /// Waits until it has to make room.
    pub(super) async fn ended(&mut self) {
        // The sender is dropped and never used.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.all.lock().remove(self.number);
    }
}

/// What one holder of addresses has: of IPv6 a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn is_ended(under_way: &mut UnderWay) -> bool {
        under_way.ended().now_or_never().is_some()
    }

    #[test]
    fn one_address_makes_room_among_its_own_and_all_together_among_all() {
        let all = Arc::new(Handshakes::default());
        let (one, other): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let mut first = all.begin(other);
        let mut own: Vec<_> = (0..=MOST_OF_ADDRESS).map(|_| all.begin(one)).collect();
        let ended: Vec<_> = own.iter_mut().map(is_ended).collect();
        assert_eq!(ended.iter().position(|ended| *ended), Some(0));
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
        assert!(!is_ended(&mut first), "another address pays nothing");
        // Those that are over make room by themselves.
        drop(own);
        let mut many: Vec<_> = (0..MOST as u32).map(|n| all.begin(IpAddr::V4((0x0a00_0000 + n).into()))).collect();
        assert!(is_ended(&mut first) && !many.iter_mut().any(is_ended));
        drop((first, many));
        assert!(all.lock().begun.is_empty() && all.lock().by_address.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_holder() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
