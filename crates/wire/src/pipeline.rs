//! The ledger of one server: requests sent and not yet answered, and whether its lease may end.
//!
//! Every reply is matched with the request it answers, so that a server is lent again only when
//! it provably owes nothing (PostgreSQL manual, "Extended Query", "Pipelining", "COPY Operations").
//!
//! ```text
//!            any request                 ReadyForQuery, nothing else owed
//!   Ready ────────────────▶ Busy ─────────────────────────────────────────▶ Ready
//!                            │ ▲ ErrorResponse, no Sync sent yet
//!                            │ └──────────── Sync ◀──── Skipping
//!                            └─ CopyInResponse ──▶ CopyIn ── CopyDone, CopyFail, error ──▶ Busy
//! ```

use std::collections::VecDeque;

/// What ReadyForQuery tells of the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TxStatus {
    /// Outside any transaction block.
    #[default]
    Idle,
    /// In a transaction block.
    Open,
    /// In a failed transaction block.
    Failed,
}

impl TxStatus {
    /// Reads the status byte of ReadyForQuery.
    pub fn parse(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Open),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// A request that the server has to answer, or, for the last two, to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Query,
    FunctionCall,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    CopyEnd,
    /// A Sync sent into a COPY, which swallows it unless it has failed before.
    InnerSync,
    /// The pooler's own empty query, sent when it is in doubt; its EmptyQueryResponse is due.
    Probe,
    /// The same; its ReadyForQuery is due.
    ProbeReady,
}

/// Where the conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    /// Everything is answered.
    #[default]
    Ready,
    /// Requests are outstanding, or an extended query waits for its Sync.
    Busy,
    /// After an error in an extended query: the server discards everything up to a Sync.
    Skipping,
    /// The server reads COPY data and swallows Syncs.
    CopyIn,
    /// COPY both ways: replication.
    CopyBoth,
    /// Replies and requests no longer match. The server may serve out this client, nobody else.
    Lost,
}

/// What becomes of a message that a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It goes to the server.
    Forward,
    /// The server would ignore it: a late piece of a COPY that failed, or a Flush of nothing.
    Drop,
}

/// Requests sent to one server and not yet answered.
///
/// The queue is bounded by what fits into the sockets between: a server that does not answer
/// soon does not read, and then neither do we.
#[derive(Debug, Default)]
pub struct Pipeline {
    queue: VecDeque<Request>,
    phase: Phase,
    status: TxStatus,
    was_ready: bool,
    /// Syncs that a failed COPY has swallowed or that will be answered: which, only the server
    /// knows. Its answer to an empty query sent behind them tells.
    doubtful: usize,
    probe_due: bool,
}

impl Pipeline {
    /// True if ReadyForQuery came since this was last asked.
    pub fn take_ready(&mut self) -> bool {
        std::mem::take(&mut self.was_ready)
    }

    /// The transaction status of the last ReadyForQuery.
    pub fn status(&self) -> TxStatus {
        self.status
    }

    /// True when every request is answered, no COPY is open, and ReadyForQuery came last.
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// True when replies and requests stopped matching: never lend this server again.
    pub fn is_lost(&self) -> bool {
        self.phase == Phase::Lost
    }

    /// True while the server waits for COPY data from the client.
    pub fn in_copy_in(&self) -> bool {
        self.phase == Phase::CopyIn
    }

    /// Requests still to be answered.
    pub fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// Notes a message on its way from the client, by its tag.
    pub fn sent(&mut self, tag: u8) -> Sent {
        let request = match tag {
            b'Q' => Request::Query,
            b'S' => return self.sent_sync(),
            b'P' => Request::Parse,
            b'B' => Request::Bind,
            b'D' => Request::Describe,
            b'E' => Request::Execute,
            b'C' => Request::Close,
            b'F' => Request::FunctionCall,
            b'c' | b'f' => return self.sent_copy_end(),
            b'd' | b'H' => return self.sent_unanswered(),
            _ => {
                self.phase = Phase::Lost;
                return Sent::Forward;
            }
        };
        match self.phase {
            Phase::Ready | Phase::Busy => self.phase = Phase::Busy,
            // Inside a COPY any other request ends the connection; let the server say so.
            Phase::Skipping | Phase::CopyIn | Phase::CopyBoth | Phase::Lost => {
                return Sent::Forward;
            }
        }
        self.queue.push_back(request);
        Sent::Forward
    }

    fn sent_sync(&mut self) -> Sent {
        match self.phase {
            Phase::Ready | Phase::Busy | Phase::Skipping => {
                self.phase = Phase::Busy;
                self.queue.push_back(Request::Sync);
            }
            Phase::CopyIn => self.queue.push_back(Request::InnerSync),
            Phase::CopyBoth | Phase::Lost => {}
        }
        Sent::Forward
    }

    fn sent_copy_end(&mut self) -> Sent {
        match self.phase {
            Phase::Ready | Phase::Skipping => return Sent::Drop,
            // Behind it the server takes requests again, though a COPY both ways may still flow.
            Phase::CopyIn | Phase::CopyBoth => self.phase = Phase::Busy,
            // The COPY may not have begun yet: its response is on the way.
            Phase::Busy if self.queue.is_empty() => return Sent::Drop,
            Phase::Busy => self.queue.push_back(Request::CopyEnd),
            Phase::Lost => {}
        }
        Sent::Forward
    }

    fn sent_unanswered(&self) -> Sent {
        match self.phase {
            Phase::Ready | Phase::Skipping => Sent::Drop,
            Phase::Busy | Phase::CopyIn | Phase::CopyBoth | Phase::Lost => Sent::Forward,
        }
    }

    /// Notes a message from the server, by its tag; ReadyForQuery goes to [`Self::ready`].
    pub fn received(&mut self, tag: u8) {
        if self.phase == Phase::Lost {
            return;
        }
        match tag {
            // Rows, COPY data, notices, notifications, parameters: nobody's last word.
            b'D' | b'd' | b'N' | b'A' | b'S' | b't' | b'H' | b'V' | b'c' => {}
            b'1' => self.answered(Request::Parse),
            b'2' => self.answered(Request::Bind),
            b'3' => self.answered(Request::Close),
            b'T' | b'n' => match self.queue.front() {
                Some(Request::Query) if tag == b'T' => {}
                _ => self.answered(Request::Describe),
            },
            b'C' | b'I' | b's' => match self.queue.front() {
                Some(Request::Query) => self.leave_copy_both(),
                _ => self.answered(Request::Execute),
            },
            b'G' => self.copy_in_begins(),
            // The client may have said its end of the COPY already.
            b'W' if self.queue.contains(&Request::CopyEnd) => {}
            b'W' => self.phase = Phase::CopyBoth,
            b'E' => self.failed(),
            _ => self.phase = Phase::Lost,
        }
    }

    /// Notes ReadyForQuery.
    pub fn ready(&mut self, status: TxStatus) {
        self.status = status;
        self.was_ready = true;
        if self.phase == Phase::Lost {
            return;
        }
        match self.queue.front() {
            Some(Request::Query | Request::FunctionCall | Request::Sync) => {
                self.queue.pop_front();
                self.drop_consumed();
            }
            // The answer to a Sync that the COPY had not swallowed.
            Some(Request::Probe) | None if self.doubtful > 0 => {
                self.doubtful = self.doubtful.saturating_sub(1);
            }
            _ => {
                self.phase = Phase::Lost;
                return;
            }
        }
        self.settle();
    }

    /// After ReadyForQuery: is anything else owed, or may it be?
    fn settle(&mut self) {
        let answered = self.queue.is_empty();
        self.probe_due = answered && self.doubtful > 0;
        self.phase = if answered && self.doubtful == 0 {
            Phase::Ready
        } else {
            Phase::Busy
        };
    }

    /// True when all that is certain is answered, and an empty query would tell whether more is
    /// owed: send one, and call [`Self::probe_sent`].
    pub fn wants_probe(&self) -> bool {
        self.probe_due
    }

    /// Notes the pooler's own empty query; its answers are not for the client.
    pub fn probe_sent(&mut self) {
        self.probe_due = false;
        self.queue.push_back(Request::Probe);
    }

    /// Whether a message of this tag answers the pooler's own query: then it goes nowhere, and
    /// [`Self::swallowed`] notes it.
    pub fn swallows(&self, tag: u8) -> bool {
        matches!(
            (self.queue.front(), tag),
            (Some(Request::Probe), b'I') | (Some(Request::ProbeReady), b'Z')
        )
    }

    /// Notes an answer to the pooler's own query.
    pub fn swallowed(&mut self) {
        match self.queue.pop_front() {
            Some(Request::Probe) => {
                // Whatever has not been answered by now was swallowed by the COPY.
                self.doubtful = 0;
                self.queue.push_front(Request::ProbeReady);
            }
            _ => self.settle(),
        }
    }

    fn answered(&mut self, expected: Request) {
        if self.queue.front() == Some(&expected) {
            self.queue.pop_front();
            self.drop_consumed();
        } else {
            self.phase = Phase::Lost;
        }
    }

    /// What a COPY consumes has no answer of its own: it goes with what stood before it.
    fn drop_consumed(&mut self) {
        while let Some(Request::CopyEnd | Request::InnerSync) = self.queue.front() {
            self.queue.pop_front();
        }
    }

    fn leave_copy_both(&mut self) {
        if self.phase == Phase::CopyBoth {
            self.phase = Phase::Busy;
        }
    }

    /// From here to the CopyDone or CopyFail the server swallows Syncs.
    fn copy_in_begins(&mut self) {
        if !matches!(self.queue.front(), Some(Request::Query | Request::Execute)) {
            self.phase = Phase::Lost;
            return;
        }
        let end = self.queue.iter().position(|&r| r == Request::CopyEnd);
        let inside = 1..end.unwrap_or(self.queue.len());
        for request in self.queue.range_mut(inside) {
            if *request == Request::Sync {
                *request = Request::InnerSync;
            }
        }
        if end.is_none() {
            self.phase = Phase::CopyIn;
        }
    }

    fn failed(&mut self) {
        // A Sync sent into the COPY was swallowed by it, or came after the error and will be
        // answered: from here we can't tell.
        let known = self.queue.len();
        self.queue.retain(|&request| request != Request::InnerSync);
        self.doubtful = self
            .doubtful
            .saturating_add(known.saturating_sub(self.queue.len()));
        match self.queue.front() {
            // ReadyForQuery follows by itself.
            Some(Request::Query | Request::FunctionCall | Request::Sync) => {
                self.phase = Phase::Busy;
            }
            Some(Request::Probe | Request::ProbeReady) => self.phase = Phase::Lost,
            Some(_) => {
                while self.queue.front().is_some_and(|&r| r != Request::Sync) {
                    self.queue.pop_front();
                }
                self.phase = if self.queue.is_empty() {
                    Phase::Skipping
                } else {
                    Phase::Busy
                };
            }
            // Out of the blue: the server's farewell. The end of its stream follows.
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a conversation: `>tags` come from the client and `<tags` from the server; `!p` is the
    /// pooler's own query, which must be due.
    fn play(script: &str) -> Pipeline {
        let mut pipeline = Pipeline::default();
        for word in script.split_whitespace() {
            let (side, tags) = word.split_at(1);
            let mut tags = tags.bytes();
            while let Some(tag) = tags.next() {
                match (side, tag) {
                    (">", tag) => {
                        pipeline.sent(tag);
                    }
                    ("!", _) => {
                        assert!(pipeline.wants_probe(), "{script}");
                        pipeline.probe_sent();
                    }
                    (_, tag) if pipeline.swallows(tag) => {
                        pipeline.swallowed();
                        if tag == b'Z' {
                            tags.next();
                        }
                    }
                    (_, b'Z') => {
                        let status = tags.next().and_then(TxStatus::parse);
                        pipeline.ready(status.expect("a status follows Z"));
                    }
                    (_, tag) => pipeline.received(tag),
                }
            }
        }
        pipeline
    }

    fn settles(script: &str) -> bool {
        play(script).is_settled()
    }

    #[test]
    fn a_simple_query_settles_at_ready_for_query() {
        assert!(!settles(">Q <TDDC"));
        assert!(settles(">Q <TDDCZI"));
        assert_eq!(play(">Q <CZT").status(), TxStatus::Open);
    }

    #[test]
    fn two_pipelined_queries_settle_at_the_second_answer() {
        assert!(!settles(">QQ <TDCZI"));
        assert!(settles(">QQ <TDCZI <TDCZI"));
    }

    #[test]
    fn an_extended_query_settles_at_its_sync_only() {
        assert!(!settles(">PBDEH <12TDC"));
        assert!(settles(">PBDEH <12TDC >S <ZI"));
        assert!(settles(">PDS <1tnZI"));
    }

    #[test]
    fn several_syncs_outstanding_are_all_awaited() {
        assert!(!settles(">PBESPBES <12CZI"));
        assert!(settles(">PBESPBES <12CZI12CZI"));
        assert!(settles(">SSS <ZIZIZI"));
    }

    #[test]
    fn an_error_skips_to_the_next_sync_exactly() {
        assert!(settles(">PBESPBES <EZI12CZI"));
        assert!(!settles(">PBE <E >BE"));
        assert!(settles(">PBE <E >BES <ZI"));
        // A query behind the error, before the Sync, is discarded by the server.
        assert!(settles(">PBE <E >QS <ZI"));
        assert!(settles(">PBEQS <EZI"));
    }

    #[test]
    fn an_error_at_sync_is_followed_by_ready_for_query() {
        assert!(settles(">PBES <12CEZI"));
    }

    #[test]
    fn ready_without_a_request_loses_the_thread() {
        assert!(play(">PB <12 <ZI").is_lost());
        assert!(play(">Q <2").is_lost());
        assert!(play(">Q <2 <E").is_lost());
        assert!(play(">Q <2 <W >c").is_lost());
    }

    #[test]
    fn a_copy_in_settles_after_its_answer() {
        assert!(!settles(">Q <G"));
        assert!(play(">Q <G >dd").in_copy_in());
        assert!(settles(">Q <G >ddc <CZI"));
        assert!(settles(">Q <G >df <EZI"));
        // The whole COPY sent before the server said a word.
        assert!(settles(">Qddc <GCZI"));
    }

    #[test]
    fn syncs_inside_a_copy_get_no_answer() {
        // libpq sends its Sync right behind Execute, and another one after CopyDone.
        assert!(settles(">PBDES <12nG >dcS <CZI"));
        assert!(!settles(">PBDES <12nG >dc <C"));
        // All at once: the Sync before CopyDone is swallowed, the one behind it is answered.
        assert!(settles(">PBESdcS <12GCZI"));
        assert!(!settles(">PBESdcS <12GC"));
    }

    #[test]
    fn what_comes_late_for_a_failed_copy_is_dropped() {
        let mut pipeline = play(">Q <G >d <EZI");
        assert!(pipeline.is_settled());
        for tag in [b'd', b'c', b'f', b'H'] {
            assert_eq!(pipeline.sent(tag), Sent::Drop);
            assert!(pipeline.is_settled());
        }
    }

    #[test]
    fn a_failed_extended_copy_waits_for_its_sync() {
        assert!(!settles(">PBE <12G >d <E >dc"));
        assert!(settles(">PBE <12G >d <E >dcS <ZI"));
        assert!(settles(">PBEdcS <12GEZI"));
    }

    #[test]
    fn a_sync_of_unknown_fate_in_a_failed_copy_is_asked_about() {
        // The COPY swallowed it: nothing comes before the answer to our own query.
        assert!(!settles(">PBES <12G >dcS <EZI"));
        assert!(settles(">PBES <12G >dcS <EZI !p <IZI"));
        assert!(settles(">PBE <12G >dScS <EZI !p <IZI"));
        assert!(settles(">Q <G >dSf <EZI !p <IZI"));
        // The COPY failed before it read the Sync: that is answered, too.
        assert!(!settles(">PBES <12G >dcS <EZI !p <ZI"));
        assert!(settles(">PBES <12G >dcS <EZI !p <ZIIZI"));
        assert!(settles(">PBESdcS <12GEZI !p <ZIIZI"));
        // It is answered while no other Sync has been sent.
        assert!(settles(">PBES <12G >d <EZI"));
        assert!(settles(">PBES <12G >d <EZI >cS <ZI"));
        assert!(!settles(">PBES <12G >d <E >cS <ZI"));
        // What the client asks meanwhile comes after our own query.
        assert!(settles(">PBES <12G >dcS <EZI !p >Q <ZIIZI <TDCZI"));
        // A COPY that went well leaves no doubt.
        assert!(settles(">PBES <12G >dcS <CZI"));
    }

    #[test]
    fn a_copy_end_nobody_asked_for_leaves_no_trace() {
        assert!(settles(">Qc <TDCZI"));
        assert!(settles(">PBEcS <12CZI"));
    }

    #[test]
    fn replication_streams_both_ways_until_its_command_completes() {
        assert!(!settles(">Q <W >dd <d"));
        assert!(settles(">Q <W >d <d >c <cCZI"));
        assert!(settles(">Q <W >d <c >c <CZI"));
        // The timeline ended: the server says which comes next.
        assert!(settles(">Q <Wddc >dc <TDCCZI"));
        // The server goes on until it has seen the end, and reads what comes behind it only then.
        assert!(settles(">Q <W >cQ <ddcCZI <TDCZI"));
        assert!(!settles(">Q <W >cQ <ddcCZI"));
        assert!(settles(">QcQ <WdcCZI <TDCZI"));
        // It failed: what the client still says is ignored.
        assert!(settles(">Q <Wd >d <E >dc <ZI"));
        let mut pipeline = play(">Q <Wd <EZI");
        assert_eq!(pipeline.sent(b'd'), Sent::Drop);
    }

    #[test]
    fn a_base_backup_has_many_results_and_copies() {
        assert!(!settles(">Q <TDCTDDCHdddcTDC"));
        assert!(settles(">Q <TDCTDDCHdddcTDCCZI"));
    }
}
