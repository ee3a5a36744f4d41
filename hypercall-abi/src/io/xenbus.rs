//! States of a device's two halves (`io/xenbus.h`), written as decimal text in the store.

/// The state of a frontend or backend.
#[doc(alias = "xenbus_state")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No such node, or unreadable.
    #[default]
    Unknown = 0,
    /// Being set up.
    Initialising = 1,
    /// Backend: waits for the frontend's or the tools' details.
    InitialisationWait = 2,
    /// Frontend: details are in the store.
    Initialised = 3,
    /// In operation.
    Connected = 4,
    /// Being closed.
    Closing = 5,
    /// Closed.
    Closed = 6,
    /// Being reconfigured.
    Reconfiguring = 7,
    /// Reconfigured.
    Reconfigured = 8,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [State; 9] = [
        State::Unknown,
        State::Initialising,
        State::InitialisationWait,
        State::Initialised,
        State::Connected,
        State::Closing,
        State::Closed,
        State::Reconfiguring,
        State::Reconfigured,
    ];

    /// The state with this number; `None` when there is none.
    pub fn from_number(number: u32) -> Option<State> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Reads the store's text; anything that is no state counts as [`State::Unknown`].
    pub fn parse(text: &[u8]) -> State {
        core::str::from_utf8(text)
            .ok()
            .and_then(|text| text.trim_end_matches('\0').parse().ok())
            .and_then(State::from_number)
            .unwrap_or_default()
    }

    /// The state's number.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The store's text.
    pub const fn text(self) -> &'static str {
        match self {
            State::Unknown => "0",
            State::Initialising => "1",
            State::InitialisationWait => "2",
            State::Initialised => "3",
            State::Connected => "4",
            State::Closing => "5",
            State::Closed => "6",
            State::Reconfiguring => "7",
            State::Reconfigured => "8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_texts_convert_both_ways() {
        for (number, state) in State::ALL.into_iter().enumerate() {
            assert_eq!(state.number() as usize, number);
            assert_eq!(State::parse(state.text().as_bytes()), state);
        }
    }

    #[test]
    fn garbage_is_the_unknown_state() {
        for text in [&b""[..], b"9", b"-1", b"4 ", b"\xff", b"99999999999999"] {
            assert_eq!(State::parse(text), State::Unknown, "{text:?}");
        }
    }
}
