//! Which answer belongs to which request, once a conversation is over.
//!
//! PostgreSQL answers in order, so a walk over both sides tells. One thing can't be seen from
//! outside: how much of what was sent into a COPY had been read when it failed, and so whether
//! a Sync among it is answered. There the walk tries what makes the rest come out even.

use testkit::Message;

/// The answers of a whole conversation.
pub(super) struct Answers {
    /// For each answer the place of its request.
    owners: Vec<usize>,
    /// For each request the number of answers that PostgreSQL has sent when it has taken this
    /// one, if it keeps nothing back then.
    heard: Vec<Option<usize>>,
}

impl Answers {
    /// Finds them; `None` if these are no answers to those requests.
    pub(super) fn find(asked: &[Message], answered: &[Message]) -> Option<Self> {
        let mut walk = Walk {
            asked,
            answered,
            owners: Vec::new(),
            open: None,
        };
        walk.from(0, false).then_some(())?;
        let (owners, open) = (walk.owners, walk.open);
        let heard = (0..asked.len())
            .map(|at| {
                let count = owners.partition_point(|&owner| owner <= at);
                let own = owners.partition_point(|&owner| owner < at)..count;
                let copies_in = answered[own].last().is_some_and(|last| last.tag == b'G');
                let sends = copies_in || matches!(asked[at].tag, b'Q' | b'F' | b'S' | b'H');
                let known = open.is_none_or(|open| at < open);
                (sends && known).then_some(count)
            })
            .collect();
        Some(Self { owners, heard })
    }

    /// The request that this answer belongs to.
    pub(super) fn owner(&self, answer: usize) -> Option<usize> {
        self.owners.get(answer).copied()
    }

    /// How many messages a client has heard that waits behind this request, if waiting is wise.
    pub(super) fn heard_by(&self, request: usize) -> Option<usize> {
        self.heard.get(request).copied().flatten()
    }
}

struct Walk<'a> {
    asked: &'a [Message],
    answered: &'a [Message],
    owners: Vec<usize>,
    /// From this request on, answers may belong to others.
    open: Option<usize>,
}

/// How the answer to one request ends.
enum Outcome {
    Answered,
    Failed,
    /// The server wants COPY data.
    CopyIn,
    /// The server ends the connection.
    Farewell,
    /// These are no answers to those requests.
    Mismatch,
}

impl Walk<'_> {
    /// Walks on from this request; true if all comes out even.
    fn from(&mut self, mut at: usize, mut skipping: bool) -> bool {
        while let Some(request) = self.asked.get(at) {
            skipping &= request.tag != b'S';
            if !skipping {
                match self.answer(at, request.tag) {
                    Outcome::Answered => {}
                    Outcome::Failed => skipping = true,
                    Outcome::CopyIn => return self.copy_in(request.tag, at + 1),
                    Outcome::Farewell => break,
                    Outcome::Mismatch => return false,
                }
            }
            at += 1;
        }
        self.owners.len() == self.answered.len()
    }

    /// Takes the rest of the answer to a request of that tag; it is due to what stands at `owner`.
    fn answer(&mut self, owner: usize, tag: u8) -> Outcome {
        let (between, last): (&[u8], &[u8]) = match tag {
            b'P' => (b"", b"1"),
            b'B' => (b"", b"2"),
            b'C' => (b"", b"3"),
            b'D' => (b"t", b"Tn"),
            b'E' => (b"DHdc", b"CIs"),
            b'Q' => (b"TDCIEHdc", b"Z"),
            b'F' => (b"VE", b"Z"),
            b'S' => (b"E", b"Z"),
            _ => return Outcome::Answered,
        };
        while let Some(message) = self.answered.get(self.owners.len()) {
            self.owners.push(owner);
            match message.tag {
                b'E' if is_fatal(message) => return Outcome::Farewell,
                b'E' if !between.contains(&b'E') => return Outcome::Failed,
                b'G' if matches!(tag, b'Q' | b'E') => return Outcome::CopyIn,
                end if last.contains(&end) => return Outcome::Answered,
                known if is_aside(known) || between.contains(&known) => {}
                _ => return Outcome::Mismatch,
            }
        }
        Outcome::Mismatch
    }

    /// Walks on from a CopyInResponse to a request of that tag; COPY data begins at `start`.
    fn copy_in(&mut self, tag: u8, start: usize) -> bool {
        let inside = |message: &&Message| matches!(message.tag, b'd' | b'H' | b'S');
        let end = start + self.asked[start..].iter().take_while(inside).count();
        let told = &self.answered[self.owners.len()..];
        let mut told = told.iter().filter(|message| !is_aside(message.tag));
        if told.next().is_some_and(|next| next.tag == b'E') {
            return match told.next() {
                // It was told something that is no COPY data.
                Some(next) if is_fatal(next) => self.farewell(end),
                _ => self.copy_failed(tag, start, end),
            };
        }
        if self.asked.get(end).is_none_or(|end| end.tag != b'c') {
            return false;
        }
        match self.answer(end, tag) {
            Outcome::Answered => self.from(end + 1, false),
            Outcome::Failed => self.from(end + 1, true),
            // The next COPY of the same query.
            Outcome::CopyIn => self.copy_in(tag, end + 1),
            Outcome::Farewell => self.owners.len() == self.answered.len(),
            Outcome::Mismatch => false,
        }
    }

    /// Tries how many of the Syncs in the data were read before the COPY failed. The error counts
    /// as the answer to the last message that may have been read.
    fn copy_failed(&mut self, tag: u8, start: usize, end: usize) -> bool {
        let before = self.owners.clone();
        let syncs = (start..end).filter(|&at| self.asked[at].tag == b'S');
        let mut found: Option<Vec<usize>> = None;
        for outside in syncs.chain([end]).collect::<Vec<_>>() {
            self.owners.clone_from(&before);
            let last_read = if outside == end { end } else { outside - 1 };
            let fits = match self.answer(last_read, tag) {
                Outcome::Answered => self.from(outside, false),
                Outcome::Failed => self.from(outside, true),
                _ => false,
            };
            if fits && found.is_some() {
                self.open = Some(self.open.map_or(start, |open| open.min(start)));
            }
            if fits {
                found.get_or_insert(std::mem::take(&mut self.owners));
            }
        }
        self.owners = found.unwrap_or_default();
        !self.owners.is_empty()
    }

    /// The rest is about the end of the connection.
    fn farewell(&mut self, owner: usize) -> bool {
        self.owners.resize(self.answered.len(), owner);
        true
    }
}

/// Notices, parameters and notifications may come at any time.
fn is_aside(tag: u8) -> bool {
    matches!(tag, b'N' | b'S' | b'A')
}

fn is_fatal(message: &Message) -> bool {
    let fields = message.error_fields();
    message.tag == b'E' && fields.is_some_and(|fields| fields.severity() == "FATAL")
}

#[cfg(test)]
mod tests {
    use testkit::{Side, Tx};

    use super::*;

    /// The owners of the answers in a conversation told by tags: `X` is a fatal error.
    fn owners(asked: &str, answered: &str) -> Option<Vec<usize>> {
        let asked: Vec<_> = asked.bytes().map(|tag| Message::client(tag, [])).collect();
        let answer = |tag| match tag {
            b'X' => Message::error("FATAL", "08P01", "lost"),
            b'Z' => Message::ready(Tx::Idle),
            b'd' => Message::copy_data(Side::Server, b"1"),
            tag => Message::server(tag, []),
        };
        let answered: Vec<_> = answered.bytes().map(answer).collect();
        Some(Answers::find(&asked, &answered)?.owners)
    }

    #[test]
    fn answers_come_in_the_order_of_requests() {
        assert_eq!(owners("QS", "TDCSZZ"), Some(vec![0, 0, 0, 0, 0, 1]));
        assert_eq!(owners("PBDES", "12NTDCZ"), Some(vec![0, 1, 2, 2, 3, 3, 4]));
        assert_eq!(owners("DDCF", "tTn3VZ"), Some(vec![0, 0, 1, 2, 3, 3]));
        assert_eq!(owners("PS", "2Z"), None);
        assert_eq!(owners("PS", "1"), None);
    }

    #[test]
    fn after_an_error_nothing_is_answered_up_to_the_sync() {
        assert_eq!(owners("PBEQSQ", "EZIZ"), Some(vec![0, 4, 5, 5]));
        assert_eq!(owners("QS", "EZZ"), Some(vec![0, 0, 1]));
    }

    #[test]
    fn what_goes_into_a_copy_is_answered_at_its_end() {
        assert_eq!(owners("QdSdcS", "GCZZ"), Some(vec![0, 4, 4, 5]));
        assert_eq!(owners("BESdcS", "2GCZ"), Some(vec![0, 1, 4, 5]));
        assert_eq!(owners("QdcddcS", "GCGCZZ"), Some(vec![0, 2, 2, 5, 5, 6]));
    }

    #[test]
    fn a_copy_that_fails_may_leave_syncs_unread() {
        // Nobody but PostgreSQL knows; what comes next tells.
        assert_eq!(owners("ESdcSQ", "GEZIZ"), Some(vec![0, 3, 4, 5, 5]));
        assert_eq!(owners("ESdcSQ", "GEZZIZ"), Some(vec![0, 0, 1, 4, 5, 5]));
        assert_eq!(owners("QdSfQ", "GEZIZ"), Some(vec![0, 3, 3, 4, 4]));
        assert_eq!(owners("QdSfQ", "GEZZIZ"), Some(vec![0, 1, 1, 2, 4, 4]));
    }

    #[test]
    fn a_query_inside_a_copy_is_the_end() {
        assert_eq!(owners("QdQS", "GEX"), Some(vec![0, 2, 2]));
    }

    #[test]
    fn one_may_wait_where_postgresql_keeps_nothing_back() {
        let asked: Vec<_> = b"PHBESdc"
            .iter()
            .map(|&tag| Message::client(tag, []))
            .collect();
        let answered: Vec<_> = b"12GC"
            .iter()
            .map(|&tag| Message::server(tag, []))
            .collect();
        let answers = Answers::find(&asked, &answered).unwrap();
        let heard: Vec<_> = (0..asked.len()).map(|at| answers.heard_by(at)).collect();
        let one_may = [None, Some(1), None, Some(3), Some(3), None, None];
        assert_eq!(heard, one_may);
    }
}
