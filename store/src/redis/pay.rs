//! Telling the cache, once it can be told, which entries are old.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use super::Inner;
use super::debts::Payment;

/// Users of one payment.
const PART: usize = 1_000;

/// Sees to it that somebody pays.
pub(super) fn begin(inner: &Arc<Inner>) {
    // Where there is no runtime, a process is ending; the entries end by themselves.
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
    if !inner.paying.swap(true, Ordering::AcqRel) {
        runtime.spawn(pay(Arc::downgrade(inner), inner.retry_after));
    }
}

async fn pay(inner: Weak<Inner>, pause: std::time::Duration) {
    loop {
        {
            let Some(inner) = inner.upgrade() else { return };
            if inner.pay().await {
                inner.paying.store(false, Ordering::Release);
                // Somebody may have begun to owe just before.
                if inner.debts.owed() == 0 || inner.paying.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }
        tokio::time::sleep(pause).await;
    }
}

impl Inner {
    /// Pays all that is owed now. Returns whether it could.
    async fn pay(&self) -> bool {
        while let Some(payment) = self.debts.next(PART) {
            let paid = match &payment {
                Payment::All => self.cache.void_all().await,
                Payment::Users(users) => self.cache.void(users).await,
            };
            if paid.is_err() {
                return false;
            }
            if payment == Payment::All {
                self.counters.voided.add(1);
                tracing::warn!(
                    "more entries of the cache were old than are kept count of: all were declared void"
                );
            }
            self.debts.paid(&payment);
        }
        true
    }
}
