//! What the toolstack asks of a guest: to shut down, by the node `control/shutdown` (`docs/misc/xenstore-paths` of Xen).

use super::store::{Store, Token};
use super::{Error, Platform, Text};

/// A request of the toolstack's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// End.
    PowerOff,
    /// End and be made anew.
    Reboot,
    /// Get ready to be saved; only to guests that said they can ([`Control::offer_suspend`]).
    Suspend,
}

/// The watch on requests.
pub struct Control {
    token: Token,
}

const NODE: &str = "control/shutdown";

impl Control {
    /// Says that this guest understands requests to end, and watches for them.
    ///
    /// # Errors
    /// What the store says.
    pub fn open<P: Platform>(store: &mut Store<P>) -> Result<Control, Error> {
        for feature in ["control/feature-poweroff", "control/feature-reboot"] {
            store.write(None, feature, b"1")?;
        }
        Ok(Control {
            token: store.watch(NODE)?,
        })
    }

    /// Says that this guest understands requests to suspend, too.
    ///
    /// # Errors
    /// What the store says.
    pub fn offer_suspend<P: Platform>(&self, store: &mut Store<P>) -> Result<(), Error> {
        store.write(None, "control/feature-suspend", b"1")
    }

    /// Has something been asked? Takes note of it, which the toolstack sees.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a word that is none of the requests; what the store says.
    pub fn poll<P: Platform>(&mut self, store: &mut Store<P>) -> Result<Option<Request>, Error> {
        if !store.has_fired(self.token)? {
            return Ok(None);
        }
        let word = match store.read(None, NODE) {
            Ok(word) => word.strip_suffix(b"\0").unwrap_or(word),
            Err(Error::Store { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let request = match word {
            b"" => return Ok(None),
            b"poweroff" | b"halt" => Ok(Some(Request::PowerOff)),
            b"reboot" => Ok(Some(Request::Reboot)),
            b"suspend" => Ok(Some(Request::Suspend)),
            other => Err(Error::Malformed {
                node: Text::of(b"shutdown"),
                expected: "poweroff, halt, reboot or suspend",
                found: Text::of(other),
            }),
        };
        // An empty node is the receipt.
        store.write(None, NODE, b"")?;
        request
    }
}
