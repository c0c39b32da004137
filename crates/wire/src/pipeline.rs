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
//! ```
//!
//! A COPY from the client makes it hard: its end, and Syncs sent into it, are swallowed while it
//! lasts; once it has failed, Syncs are answered again. Which is which can't always be seen from
//! here. Then requests wait ([`Gate`]), and a query of our own finds out.

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

/// A request about a pooled statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// The client's Parse, under the pooled name.
    Parse,
    /// A Parse of the pooler's own: the client does not hear of its success.
    OwnParse,
    /// A Close of the pooler's own.
    OwnClose,
    /// A Parse that was not sent: ParseComplete is due in its place.
    FakeParse,
    /// A Close that was not sent.
    FakeClose,
    /// The client's Bind, under the pooled name.
    Bind,
    /// The client's Describe, under the pooled name.
    Describe,
    /// A Describe of the pooler's own, to compare with what clients were told.
    OwnDescribe,
    /// A request that is sure to fail: its error is the pooler's to word.
    Refused,
}

/// A message that the pooler owes in the server's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fake {
    /// ParseComplete.
    Parse,
    /// CloseComplete.
    Close,
}

/// A request about a pooled statement failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// What it was.
    pub about: About,
    /// The mark it was sent with.
    pub mark: u64,
}

/// A request and what it is known by: a ticket, or a statement's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    request: Request,
    mark: u64,
}

/// Mark of an Execute that may drop all statements.
const DROPS_ALL: u64 = 1;

/// Mark of a Sync behind which a piece of a COPY was sent, and no request between: if that COPY
/// began before the Sync, it swallowed the Sync, unless it had failed.
const IN_COPY: u64 = 1;

/// A request that the server has to answer, or, for the last three, to consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    About(About),
    Query,
    FunctionCall,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    CopyEnd,
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

/// Whether the client's next request may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// It may.
    Open,
    /// Answers to come tell whether a COPY swallowed a Sync; what is sent behind would confuse
    /// them.
    Wait,
    /// The same, and no answer will come: only the client's Sync would bring one.
    Stuck,
}

/// Requests sent to one server and not yet answered.
///
/// The queue is bounded by what fits into the sockets between: a server that does not answer
/// soon does not read, and then neither do we.
#[derive(Debug, Default)]
pub struct Pipeline {
    queue: VecDeque<Entry>,
    phase: Phase,
    status: TxStatus,
    was_ready: bool,
    /// Syncs sent so far.
    syncs: u64,
    /// Tickets given out, and the last one whose request left the queue.
    tickets: u64,
    settled_ticket: u64,
    /// Tickets of requests that failed or were skipped.
    undone: Vec<u64>,
    /// Requests in the queue that may drop all prepared statements.
    dropping: usize,
    /// Whether an Execute that comes now may.
    may_drop: bool,
    /// The request at the front reads COPY data: up to its end the server swallows Syncs.
    copying: bool,
    /// Syncs in the queue that may stand inside a COPY.
    entangled: usize,
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
        self.copying && !self.holds(Request::CopyEnd)
    }

    /// True while a simple query is answered, other than by a COPY: then nothing but its end, an
    /// error or what is no answer changes anything here.
    pub fn is_in_query(&self) -> bool {
        self.phase == Phase::Busy && !self.copying && self.front() == Some(Request::Query)
    }

    /// Whether a request may be sent now; Syncs and COPY data always may.
    pub fn gate(&self) -> Gate {
        let in_doubt = self.doubtful > 0;
        if self.entangled == 0 && !in_doubt {
            return Gate::Open;
        }
        match self.phase {
            Phase::Lost | Phase::CopyBoth => Gate::Open,
            Phase::Skipping if in_doubt => Gate::Stuck,
            // What comes behind our own query is told apart from what came before it.
            _ if in_doubt && self.holds(Request::Probe) => Gate::Open,
            _ if in_doubt => Gate::Wait,
            // Here it ends the connection, unless the COPY has failed already.
            _ if self.in_copy_in() => Gate::Open,
            _ => Gate::Wait,
        }
    }

    /// Requests still to be answered.
    pub fn outstanding(&self) -> usize {
        self.queue.len()
    }

    /// True while the server discards all that comes before the next Sync.
    pub fn is_skipping(&self) -> bool {
        self.phase == Phase::Skipping
    }

    /// True if requests that name statements mean what they say now: not once the thread is lost.
    pub fn takes_requests(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Busy | Phase::Skipping)
    }

    /// True while a request is unanswered that may drop all prepared statements.
    pub fn may_be_dropping(&self) -> bool {
        self.dropping > 0
    }

    /// True if a request is unanswered that may leave the transaction failed.
    pub fn is_in_doubt(&self) -> bool {
        let ends = [Request::Sync, Request::Query, Request::FunctionCall];
        ends.into_iter().any(|request| self.holds(request))
    }

    fn holds(&self, request: Request) -> bool {
        self.queue.iter().any(|entry| entry.request == request)
    }

    /// Counts the Syncs sent: requests between the same two fail together.
    pub fn syncs_sent(&self) -> u64 {
        self.syncs
    }

    /// A number for the next request about a statement, larger than all before.
    pub fn ticket(&mut self) -> u64 {
        self.tickets = self.tickets.saturating_add(1);
        self.tickets
    }

    /// True if the request with this ticket is answered, or never will be.
    pub fn has_settled(&self, ticket: u64) -> bool {
        ticket <= self.settled_ticket
    }

    /// True if [`Self::take_undone`] has something to tell.
    pub fn has_undone(&self) -> bool {
        !self.undone.is_empty()
    }

    /// Tickets of requests that failed, or that the server skipped, since this was last asked; in
    /// the order they were sent.
    pub fn take_undone(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.undone)
    }

    /// From here on an Execute may drop all prepared statements.
    pub fn beware_of_drops(&mut self) {
        self.may_drop = true;
    }

    /// Notes a request about a pooled statement, where [`Self::takes_requests`] allows it and the
    /// server does not skip it. `mark` is a ticket; of the client's Bind and Describe it is the
    /// statement's number.
    pub fn sent_about(&mut self, about: About, mark: u64) {
        self.phase = Phase::Busy;
        self.push(Request::About(about), mark);
    }

    /// The message that is due from the pooler now, before anything else of the server's.
    pub fn take_fake(&mut self) -> Option<Fake> {
        let fake = match self.front() {
            Some(Request::About(About::FakeParse)) => Fake::Parse,
            Some(Request::About(About::FakeClose)) => Fake::Close,
            _ => return None,
        };
        self.pop();
        self.drop_consumed();
        Some(fake)
    }

    /// True if [`Self::take_fake`] has one.
    pub fn owes_fake(&self) -> bool {
        matches!(
            self.front(),
            Some(Request::About(About::FakeParse | About::FakeClose))
        )
    }

    /// What a description now would be about, with its mark: a pooled statement's, which had better
    /// be read.
    pub fn describes(&self) -> Option<(About, u64)> {
        match self.queue.front()? {
            Entry {
                request: Request::About(about @ (About::Describe | About::OwnDescribe)),
                mark,
            } => Some((*about, *mark)),
            _ => None,
        }
    }

    /// True if an error now would concern a pooled statement: then it had better be read.
    pub fn error_is_about(&self) -> bool {
        matches!(self.front(), Some(Request::About(_)))
    }

    fn front(&self) -> Option<Request> {
        self.queue.front().map(|entry| entry.request)
    }

    fn push(&mut self, request: Request, mark: u64) {
        let entry = Entry { request, mark };
        if entry.may_drop_all() {
            self.dropping = self.dropping.saturating_add(1);
        }
        self.queue.push_back(entry);
    }

    fn pop(&mut self) -> Option<Entry> {
        let entry = self.queue.pop_front()?;
        if entry.may_drop_all() {
            self.dropping = self.dropping.saturating_sub(1);
        }
        if let Some(ticket) = entry.ticket() {
            self.settled_ticket = ticket;
        }
        self.forgot(entry);
        Some(entry)
    }

    /// An entry has left the queue.
    fn forgot(&mut self, entry: Entry) {
        if entry.is_in_copy() {
            self.entangled = self.entangled.saturating_sub(1);
        }
    }

    /// Takes a request off the queue that failed, or that the server skips.
    fn undo(&mut self) -> Option<Entry> {
        let entry = self.pop()?;
        self.undone.extend(entry.ticket());
        Some(entry)
    }

    /// Notes a message of an extended query on its way from the client, where nothing stands in the way of
    /// it; false if it is anything else, or something may: then nothing is noted. Behind an open
    /// [`Self::gate`], [`Self::sent`] would do the same with more ado.
    #[inline]
    pub(crate) fn sends_usual(&mut self, tag: u8) -> bool {
        let is_plain = matches!(self.phase, Phase::Ready | Phase::Busy)
            && self.entangled == 0
            && self.doubtful == 0
            && !self.may_drop;
        if !is_plain {
            return false;
        }
        let request = match tag {
            b'P' => Request::Parse,
            b'B' => Request::Bind,
            b'D' => Request::Describe,
            b'E' => Request::Execute,
            b'S' => {
                self.syncs = self.syncs.saturating_add(1);
                Request::Sync
            }
            _ => return false,
        };
        self.phase = Phase::Busy;
        self.queue.push_back(Entry { request, mark: 0 });
        true
    }

    /// Notes a message on its way from the client, by its tag.
    pub fn sent(&mut self, tag: u8) -> Sent {
        let request = match tag {
            b'Q' => Request::Query,
            b'S' => return self.sent_sync(),
            b'P' => Request::Parse,
            b'B' => Request::Bind,
            b'D' => Request::Describe,
            b'E' => return self.sent_execute(),
            b'C' => Request::Close,
            b'F' => Request::FunctionCall,
            b'c' | b'f' => return self.sent_copy_end(),
            b'd' => return self.sent_copy_data(),
            b'H' => return self.sent_unanswered(),
            _ => {
                self.phase = Phase::Lost;
                return Sent::Forward;
            }
        };
        self.sent_request(request, 0)
    }

    fn sent_execute(&mut self) -> Sent {
        let mark = if self.may_drop { DROPS_ALL } else { 0 };
        self.sent_request(Request::Execute, mark)
    }

    fn sent_request(&mut self, request: Request, mark: u64) -> Sent {
        match self.phase {
            Phase::Ready | Phase::Busy => {
                self.phase = Phase::Busy;
                self.push(request, mark);
            }
            Phase::Skipping | Phase::CopyBoth | Phase::Lost => {}
        }
        Sent::Forward
    }

    fn sent_sync(&mut self) -> Sent {
        self.syncs = self.syncs.saturating_add(1);
        match self.phase {
            Phase::Ready | Phase::Busy | Phase::Skipping => {
                self.phase = Phase::Busy;
                self.push(Request::Sync, 0);
            }
            Phase::CopyBoth | Phase::Lost => {}
        }
        Sent::Forward
    }

    fn sent_copy_end(&mut self) -> Sent {
        match self.phase {
            Phase::Ready | Phase::Skipping => return Sent::Drop,
            // Behind it the server takes requests again, though a COPY both ways may still flow.
            Phase::CopyBoth => self.phase = Phase::Busy,
            Phase::Busy if self.queue.is_empty() => return Sent::Drop,
            Phase::Busy => {
                self.note_copy_piece();
                self.push(Request::CopyEnd, 0);
            }
            Phase::Lost => {}
        }
        Sent::Forward
    }

    fn sent_copy_data(&mut self) -> Sent {
        self.note_copy_piece();
        self.sent_unanswered()
    }

    fn sent_unanswered(&self) -> Sent {
        match self.phase {
            Phase::Ready | Phase::Skipping => Sent::Drop,
            Phase::Busy | Phase::CopyBoth | Phase::Lost => Sent::Forward,
        }
    }

    /// A piece of a COPY is sent. The COPY may have begun before the Syncs that went last.
    fn note_copy_piece(&mut self) {
        for entry in self.queue.iter_mut().rev() {
            match entry.request {
                Request::Sync if entry.mark == IN_COPY => return,
                Request::Sync => {
                    entry.mark = IN_COPY;
                    self.entangled = self.entangled.saturating_add(1);
                }
                Request::CopyEnd => {}
                _ if entry.is_fake() => {}
                _ => return,
            }
        }
    }

    /// Notes a message from the server that answers the request at the front as usual; false if it is
    /// anything but that, or something else is due behind it: then nothing is noted. [`Self::received`]
    /// would do the same with more ado.
    #[inline]
    pub(crate) fn takes_usual(&mut self, tag: u8) -> bool {
        let Some(front) = self.queue.front() else {
            return false;
        };
        let is_usual = match front.request {
            Request::Parse => tag == b'1',
            Request::Bind | Request::About(About::Bind) => tag == b'2',
            Request::Describe => matches!(tag, b'T' | b'n'),
            Request::Execute => tag == b'C' && front.mark != DROPS_ALL,
            _ => false,
        };
        if !is_usual || self.phase != Phase::Busy || self.copying {
            return false;
        }
        let behind = self.queue.get(1);
        if behind.is_some_and(|it| it.request == Request::CopyEnd || it.is_fake()) {
            return false;
        }
        self.queue.pop_front();
        true
    }

    /// Notes a message from the server, by its tag; ReadyForQuery goes to [`Self::ready`].
    pub fn received(&mut self, tag: u8) {
        if self.phase == Phase::Lost {
            return;
        }
        match tag {
            // Rows, COPY data, notices, notifications, parameters: nobody's last word.
            b'D' | b'd' | b'N' | b'A' | b'S' | b't' | b'H' | b'V' | b'c' => {}
            b'1' => self.answered(Request::Parse, Some(About::Parse)),
            b'2' => self.answered(Request::Bind, Some(About::Bind)),
            b'3' => self.answered(Request::Close, None),
            b'T' | b'n' => match self.front() {
                Some(Request::Query) if tag == b'T' => {}
                _ => self.answered(Request::Describe, Some(About::Describe)),
            },
            b'C' if self.copying => self.copied(),
            b'C' | b'I' | b's' => match self.front() {
                Some(Request::Query) => self.leave_copy_both(),
                _ => self.answered(Request::Execute, None),
            },
            b'G' => self.copy_in_begins(),
            // The client may have said its end of the COPY already.
            b'W' if self.holds(Request::CopyEnd) => {}
            b'W' => self.phase = Phase::CopyBoth,
            b'E' => {
                self.failed();
            }
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
        match self.front() {
            _ if self.copying => {
                self.phase = Phase::Lost;
                return;
            }
            Some(Request::Query | Request::FunctionCall | Request::Sync) => {
                self.pop();
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
            self.may_drop &= self.status != TxStatus::Idle;
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
        self.push(Request::Probe, 0);
    }

    /// Whether a message of this tag answers the pooler's own query: then it goes nowhere, and
    /// [`Self::swallowed`] notes it.
    pub fn swallows(&self, tag: u8) -> bool {
        let ours = matches!(
            (self.front(), tag),
            (Some(Request::Probe), b'I')
                | (Some(Request::ProbeReady), b'Z')
                | (Some(Request::About(About::OwnParse)), b'1')
                | (Some(Request::About(About::OwnClose)), b'3')
                | (Some(Request::About(About::OwnDescribe)), b't' | b'T' | b'n')
        );
        ours && self.phase != Phase::Lost
    }

    /// Notes an answer to the pooler's own query.
    pub fn swallowed(&mut self, tag: u8) {
        // Of two messages that answer a Describe, the second one is the last word.
        if self.phase == Phase::Lost || tag == b't' {
            return;
        }
        match self.pop().map(|entry| entry.request) {
            Some(Request::Probe) => {
                // Whatever has not been answered by now was swallowed by the COPY.
                self.doubtful = 0;
                let entry = Entry {
                    request: Request::ProbeReady,
                    mark: 0,
                };
                self.queue.push_front(entry);
            }
            Some(Request::ProbeReady) => {
                self.drop_consumed();
                self.settle();
            }
            _ => self.drop_consumed(),
        }
    }

    fn answered(&mut self, expected: Request, about: Option<About>) {
        let fits = match self.front() {
            // The server did not share our view: what it answers counts.
            Some(Request::About(About::Refused)) => true,
            Some(Request::About(front)) => Some(front) == about,
            front => front == Some(expected),
        };
        if fits {
            self.pop();
            self.drop_consumed();
        } else {
            self.phase = Phase::Lost;
        }
    }

    /// The end of a COPY has no answer of its own: it goes with what stood before it.
    fn drop_consumed(&mut self) {
        while self.front() == Some(Request::CopyEnd) {
            self.pop();
        }
    }

    fn leave_copy_both(&mut self) {
        if self.phase == Phase::CopyBoth {
            self.phase = Phase::Busy;
        }
    }

    fn copy_in_begins(&mut self) {
        if matches!(self.front(), Some(Request::Query | Request::Execute)) {
            self.copying = true;
        } else {
            self.phase = Phase::Lost;
        }
    }

    /// A COPY went well: the server has read its end, and swallowed the Syncs before that.
    fn copied(&mut self) {
        self.copying = false;
        let is_end = |entry: &Entry| entry.request == Request::CopyEnd;
        let Some(end) = self.queue.iter().position(is_end) else {
            self.phase = Phase::Lost;
            return;
        };
        self.forget(end, |entry| entry.request == Request::Sync || is_end(entry));
        if self.front() == Some(Request::Execute) {
            self.pop();
            self.drop_consumed();
        }
    }

    /// Takes entries off the queue, up to and with this place; returns how many.
    fn forget(&mut self, end: usize, goes: impl Fn(&Entry) -> bool) -> usize {
        let kept = self
            .queue
            .split_off(end.saturating_add(1).min(self.queue.len()));
        let known = self.queue.len();
        let (gone, stays): (VecDeque<_>, VecDeque<_>) = self.queue.drain(..).partition(goes);
        gone.into_iter().for_each(|entry| self.forgot(entry));
        self.queue = stays;
        let count = known.saturating_sub(self.queue.len());
        self.queue.extend(kept);
        count
    }

    /// A COPY failed. A Sync sent into it was swallowed, or came after the error and will be
    /// answered: from here we can't tell. False if nothing ever will.
    fn doubt_inner_syncs(&mut self) -> bool {
        // The connection lives: the COPY failed before it came to any request.
        let inside = |entry: &&Entry| entry.request == Request::Sync || entry.is_fake();
        let inside = self.queue.iter().skip(1).take_while(inside).count();
        let syncs = self.forget(inside, Entry::is_in_copy);
        self.doubtful = self.doubtful.saturating_add(syncs);
        let is_known = |entry: &Entry| matches!(entry.request, Request::Sync | Request::CopyEnd);
        syncs == 0 || self.queue.iter().skip(1).all(is_known)
    }

    /// Notes an error of the server's; tells if a request about a pooled statement failed.
    pub fn failed(&mut self) -> Option<Failure> {
        if self.phase == Phase::Lost {
            return None;
        }
        if std::mem::take(&mut self.copying) && !self.doubt_inner_syncs() {
            self.phase = Phase::Lost;
            return None;
        }
        match self.front() {
            // ReadyForQuery follows by itself.
            Some(Request::Query | Request::FunctionCall | Request::Sync) => {
                self.phase = Phase::Busy;
                None
            }
            Some(Request::Probe | Request::ProbeReady) => {
                self.phase = Phase::Lost;
                None
            }
            Some(_) => self.skip_to_sync(),
            // Out of the blue: the server's farewell. The end of its stream follows.
            None => None,
        }
    }

    /// The request at the front failed, and the server discards what follows.
    fn skip_to_sync(&mut self) -> Option<Failure> {
        let failed = self.undo();
        while self.front().is_some_and(|front| front != Request::Sync) {
            self.undo();
        }
        self.phase = if self.queue.is_empty() {
            Phase::Skipping
        } else {
            Phase::Busy
        };
        match failed? {
            Entry {
                request: Request::About(about),
                mark,
            } => Some(Failure { about, mark }),
            _ => None,
        }
    }
}

impl Entry {
    /// True of a Sync that a COPY may swallow.
    fn is_in_copy(&self) -> bool {
        self.request == Request::Sync && self.mark == IN_COPY
    }

    /// True of a request that was not sent.
    fn is_fake(&self) -> bool {
        let fakes = [About::FakeParse, About::FakeClose];
        matches!(self.request, Request::About(about) if fakes.contains(&about))
    }

    /// True of a request that may drop all prepared statements.
    fn may_drop_all(self) -> bool {
        match self.request {
            Request::Query => true,
            Request::Execute => self.mark == DROPS_ALL,
            _ => false,
        }
    }

    /// The ticket it was sent with.
    fn ticket(self) -> Option<u64> {
        match self.request {
            Request::About(About::Bind | About::Describe) => None,
            Request::About(_) => Some(self.mark),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends a request about a pooled statement: `p` a client's Parse, `o` our own, `c` our own
    /// Close, `d` our own Describe, `P` and `C` faked ones, `b` a Bind, `r` one that we refuse.
    fn sent_about(pipeline: &mut Pipeline, tag: u8) {
        let about = match tag {
            b'p' => About::Parse,
            b'o' => About::OwnParse,
            b'c' => About::OwnClose,
            b'P' => About::FakeParse,
            b'C' => About::FakeClose,
            b'b' => return pipeline.sent_about(About::Bind, 77),
            b'd' => About::OwnDescribe,
            b'r' => About::Refused,
            other => panic!("{}", char::from(other)),
        };
        let ticket = pipeline.ticket();
        pipeline.sent_about(about, ticket);
    }

    /// Plays a conversation: `>tags` come from the client and `<tags` from the server; `!p` is the
    /// pooler's own query, which must be due; `@tags` are about pooled statements, and `*1` and
    /// `*3` are messages that must be due from the pooler.
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
                    ("@", tag) => sent_about(&mut pipeline, tag),
                    ("*", tag) => {
                        let fake = match tag {
                            b'1' => Fake::Parse,
                            _ => Fake::Close,
                        };
                        assert_eq!(pipeline.take_fake(), Some(fake), "{script}");
                    }
                    ("!", _) => {
                        assert!(pipeline.wants_probe(), "{script}");
                        pipeline.probe_sent();
                    }
                    (_, tag) if pipeline.swallows(tag) => {
                        pipeline.swallowed(tag);
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
        // Nothing brings it back.
        assert!(play(">Q <2 <E <ZI").is_lost());
        assert!(play(">Q <2 <G >dc <CZI").is_lost());
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
    fn each_copy_of_a_query_has_its_own_end() {
        assert!(settles(">Qdcdc <GCGCZI"));
        assert!(settles(">QdcSdcS <GCGCZIZI"));
        assert!(!settles(">QdcSdcS <GCGCZI"));
        // What is said behind the last one is for nobody.
        assert!(settles(">PBEcfS <12GCZI"));
    }

    #[test]
    fn what_is_asked_inside_a_copy_is_answered_if_that_has_failed() {
        assert!(!settles(">QdQ <GEZI"));
        assert!(settles(">QdQ <GEZI <TDCZI"));
        assert!(settles(">QdQdc <GEZI <GCZI"));
        assert!(settles(">PBEdS <12GEZI"));
        assert!(settles(">PBEdSQ <12GEZITDCZI"));
        assert!(settles(">PBEd @C >S <12GEZI"));
    }

    #[test]
    fn requests_wait_while_a_copy_may_have_swallowed_a_sync() {
        let gate = |script| {
            let mut pipeline = play(script);
            let gate = pipeline.gate();
            let is_usual = pipeline.sends_usual(b'P');
            assert!(!is_usual || gate == Gate::Open, "{script}");
            gate
        };
        // The server waits for the client: let it say what it thinks of a request.
        assert_eq!(gate(">PBES <12G >d"), Gate::Open);
        assert_eq!(gate(">PBESdc"), Gate::Wait);
        assert_eq!(gate(">PBES <12G >dc <C"), Gate::Open);
        assert_eq!(gate(">PBES <12G >dcS <E"), Gate::Wait);
        assert_eq!(gate(">PBES <12G >dcS <EZI"), Gate::Wait);
        assert_eq!(gate(">PBES <12G >dcS <EZI !p"), Gate::Open);
        assert_eq!(gate(">QSdc <GEZI !p <I"), Gate::Open);
        // Without a Sync there is nothing to ask with.
        assert_eq!(gate(">PBES <12G >dc <E"), Gate::Stuck);
        // No data stands between them, so the COPY failed before the Sync.
        assert_eq!(gate(">PBEdS <12GE"), Gate::Open);
        assert_eq!(gate(">PBESPBES"), Gate::Open);
    }

    #[test]
    fn answers_of_a_failed_copy_with_requests_inside_match_no_more() {
        assert!(play(">PBES <12G >dPBES <E").is_lost());
        assert!(!play(">PBEdSPBES <12GE").is_lost());
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
        // An end that comes late is for nobody.
        assert!(settles(">PBES <12G >dcS <EZI !p >fS <IZIZI"));
        assert!(settles(">PBES <12G >dcS <EZI !p >f <IZI"));
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

    #[test]
    fn a_pooled_statement_is_parsed_once_and_bound_many_times() {
        assert!(settles("@pb >DES <12TDCZI"));
        // Another server: our own Parse goes before the Bind, and nobody hears of it.
        assert!(settles("@ob >DES <12TDCZI"));
        // What it returns is compared with what it returned elsewhere.
        assert!(settles("@odb >DES <1tT2TDCZI"));
        assert!(settles("@odb >DES <1tn2nCZI"));
        // A third one: it makes room first.
        assert!(settles("@cpb >ES <312CZI"));
    }

    #[test]
    fn a_fake_is_due_when_all_before_it_is_answered() {
        assert!(!play("@b >E @P").owes_fake());
        assert!(!play("@b >E @P <2").owes_fake());
        assert!(settles("@b >E @P >S <2C *1 <ZI"));
        assert!(settles("@PC *13 >S <ZI"));
        assert!(settles("@PbC >S *1 <2 *3 <ZI"));
        assert!(!settles("@P *1"));
    }

    #[test]
    fn what_fails_or_is_skipped_is_told_by_its_ticket() {
        let mut pipeline = play("@pbcP >ES @p >S");
        assert!(!pipeline.has_settled(1));
        assert_eq!(
            pipeline.failed(),
            Some(Failure {
                about: About::Parse,
                mark: 1
            })
        );
        assert_eq!(pipeline.take_undone(), [1, 2, 3]);
        assert!(pipeline.has_settled(3) && !pipeline.has_settled(4));
        pipeline.ready(TxStatus::Idle);
        pipeline.received(b'1');
        assert!(pipeline.has_settled(4) && !pipeline.has_undone());

        let mut pipeline = play("@b >ES");
        let failure = pipeline.failed();
        assert_eq!(failure.map(|failure| failure.mark), Some(77));
        // The Bind went well, what it bound did not.
        assert_eq!(play("@b >ES <2").failed(), None);
    }

    #[test]
    fn a_refused_request_may_be_answered_in_any_way() {
        assert!(settles("@r >S <EZI"));
        assert!(settles("@r >ES <2CZI"));
        assert!(settles("@ccr >S <331ZI"));
    }

    #[test]
    fn queries_and_dangerous_executes_may_drop_statements_until_they_are_answered() {
        assert!(play(">Q").may_be_dropping());
        assert!(!play(">Q <CZI").may_be_dropping());
        assert!(!play(">PBES").may_be_dropping());
        assert!(!play(">PBEQS <E").may_be_dropping());
        let mut pipeline = play(">P");
        pipeline.beware_of_drops();
        pipeline.sent(b'B');
        assert!(!pipeline.may_be_dropping());
        pipeline.sent(b'E');
        assert!(pipeline.may_be_dropping());
    }

    /// Something that happens on a connection.
    #[derive(Debug, Clone, Copy)]
    enum Event {
        Sent(u8),
        About(u8),
        Dangerous,
        Received(u8),
        Ready,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let usual = |tags: &'static [u8]| proptest::sample::select(tags);
        let event = prop_oneof![
            8 => usual(b"PBDES").prop_map(Event::Sent),
            3 => usual(b"QCFcfdH").prop_map(Event::Sent),
            2 => usual(b"pocPCbdr").prop_map(Event::About),
            1 => Just(Event::Dangerous),
            8 => usual(b"12TnC").prop_map(Event::Received),
            3 => usual(b"3ItDGGEWs?").prop_map(Event::Received),
            2 => Just(Event::Ready),
        ];
        proptest::collection::vec(event, 0..24)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn what_is_usual_is_noted_as_if_it_were_not(events in events()) {
            let (mut quick, mut slow) = (Pipeline::default(), Pipeline::default());
            for event in events {
                while let Some(fake) = slow.take_fake() {
                    prop_assert_eq!(quick.take_fake(), Some(fake));
                }
                match event {
                    Event::Sent(tag) => {
                        let is_usual = quick.sends_usual(tag);
                        prop_assert!(!is_usual || slow.gate() == Gate::Open);
                        let sent = slow.sent(tag);
                        let as_usual = if is_usual { Sent::Forward } else { quick.sent(tag) };
                        prop_assert_eq!(as_usual, sent);
                    }
                    Event::About(about) if slow.takes_requests() && !slow.is_skipping() => {
                        sent_about(&mut quick, about);
                        sent_about(&mut slow, about);
                    }
                    Event::About(_) => {}
                    Event::Dangerous => {
                        quick.beware_of_drops();
                        slow.beware_of_drops();
                    }
                    Event::Received(tag) => {
                        let read = slow.describes().is_some() && matches!(tag, b't' | b'T' | b'n');
                        let swallowed = slow.swallows(tag);
                        if quick.takes_usual(tag) {
                            prop_assert!(!read && !swallowed && !quick.owes_fake());
                            slow.received(tag);
                        } else {
                            for pipeline in [&mut quick, &mut slow] {
                                match swallowed {
                                    true => pipeline.swallowed(tag),
                                    false => pipeline.received(tag),
                                }
                            }
                        }
                    }
                    Event::Ready => {
                        quick.ready(TxStatus::Idle);
                        slow.ready(TxStatus::Idle);
                    }
                }
                prop_assert_eq!(format!("{quick:?}"), format!("{slow:?}"));
            }
        }
    }
}
