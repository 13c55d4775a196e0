// Package inbox receives: each message is handled once, in the transaction of your own writes (docs/inbox.md).
//
//	err := inbox.Work(ctx, db, "stock", func(ctx context.Context, tx *sql.Tx, m *inbox.Message) error {
//		_, err := tx.ExecContext(ctx, "UPDATE stock SET ...", ...)
//		return err // nil: done. inbox.Reject("why"): never, kept as dead. Any other: undone, and tried again
//	})
package inbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"rowpost/internal/dberr"
)

const (
	piece        = 512 * 1024            // of a payload that the session's max_allowed_packet does not let through in one
	firstWait    = 10 * time.Millisecond // after the last message; doubles up to Poll
	longestPause = 5 * time.Second       // while the database cannot be reached
	locksInARow  = 3                     // of one message, then it waits like one that has failed and lets others pass
	reasonBytes  = 1024                  // of a reason are kept
	longestRetry = 365 * 24 * time.Hour
	noReason     = "its reason cannot be stored"
	followFor    = 50 * time.Millisecond // how long a transaction may go on with the next message of its key
	start        = "1970-01-01"          // where a take begins that is to see all that is due
	startShare   = 20                    // of its time a worker spends one part in so many on takes that begin there
	longestSkip  = time.Minute
)

// Message is one message of the inbox. Texts are as they came, a NULL is "".
type Message struct {
	ID                        uint64
	MessageID, Topic          string
	Key, ContentType          string
	HasKey, HasContentType    bool
	Headers                   map[string]any // numbers are json.Number
	RawHeaders                []byte         // as they came
	Source, Traceparent       string
	HasSource, HasTraceparent bool
	CreatedAt, ReceivedAt     time.Time
	Attempt, MaxAttempts      uint32 // Attempt is 1 for the first try
	Payload                   []byte
	keyHash                   []byte
	size                      uint64
	due                       string
}

// Handler does the work of a message in tx, which is open and which it must neither commit nor roll back.
type Handler func(ctx context.Context, tx *sql.Tx, m *Message) error

// Beginner gives transactions: a *sql.DB, usually.
type Beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

type retryError struct {
	reason string
	after  any // milliseconds; nil: the queue's backoff
}

func (e *retryError) Error() string { return e.reason }

type rejectError struct{ reason string }

func (e *rejectError) Error() string { return e.reason }

// Retry as a handler's error: undone, and tried again after so long, a year at most. Below 0: by the queue's backoff, as with any other error.
func Retry(reason string, after time.Duration) error {
	if after < 0 {
		return &retryError{reason: reason}
	}
	return &retryError{reason: reason, after: min(after, longestRetry).Milliseconds()}
}

// Reject as a handler's error: it will never succeed. Kept as dead, with the reason.
func Reject(reason string) error { return &rejectError{reason} }

// Worker is one worker, for one goroutine. As many as you like, in any number of processes, side by side.
type Worker struct {
	DB      Beginner
	Queue   string
	Handler Handler
	Poll    time.Duration // how often an empty inbox is asked; 0: a second
	WakeDir string        // wake_dir of the queue in inbox-relay's configuration: ends a wait at once
	Follow  int           // up to so many messages of one key share a commit, for 50 ms at most; 0: 20
	Log     *slog.Logger  // nil: slog.Default()

	bell chan struct{}
	// A message that may have ended its worker is counted first: each one until the first went well, and the one in whose
	// transaction the connection was lost. And after a rollback the next one has a transaction to itself (isTogether is false):
	// else a message that fails in the wake of others of its key takes them back with it, and its failure is never noted.
	isOld       bool
	isTogether  bool
	suspect     uint64
	current     *Message
	isCounted   bool
	lockedID    uint64
	lockedTimes int
	due         string    // of the message that was taken last
	startAgain  time.Time // when a take begins at the start again
}

// Work works off the queue until ctx is done; the message in hand ends well before it returns.
func Work(ctx context.Context, db Beginner, queue string, handler Handler) error {
	return (&Worker{DB: db, Queue: queue, Handler: handler}).Run(ctx)
}

// Run works until ctx is done. What goes wrong with the database is logged and tried again; an error is a WakeDir that cannot be used.
func (w *Worker) Run(ctx context.Context) error {
	if w.Poll == 0 {
		w.Poll = time.Second
	}
	if w.Follow == 0 {
		w.Follow = 20
	}
	if w.Log == nil {
		w.Log = slog.Default()
	}
	if w.WakeDir != "" {
		silence, err := w.listen()
		if err != nil {
			return fmt.Errorf("rowpost: wake_dir: %w", err)
		}
		defer silence()
	}
	wait, pause := firstWait, firstWait
	for ctx.Err() == nil {
		// What has begun ends, whatever becomes of ctx.
		found, err := w.serve(context.WithoutCancel(ctx), ctx)
		switch {
		case err != nil:
			w.Log.Warn("inbox", "queue", w.Queue, "error", err)
			w.wait(ctx, pause)
			pause = min(2*pause, longestPause)
			continue
		case found:
			wait = firstWait
		case w.wait(ctx, wait):
			wait = firstWait
		default:
			wait = min(2*wait, w.Poll)
		}
		pause = firstWait
	}
	return nil
}

func (w *Worker) listen() (silence func(), err error) {
	var name [4]byte
	_, _ = rand.Read(name[:])
	path := filepath.Join(w.WakeDir, fmt.Sprintf("%d-%s", os.Getpid(), hex.EncodeToString(name[:])))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	// inbox-relay runs as another user, and to send it needs the right to write.
	if err := os.Chmod(path, 0o666); err != nil {
		_ = conn.Close()
		return nil, err
	}
	bell := make(chan struct{}, 1)
	w.bell = bell
	go func() {
		datagram := make([]byte, 256)
		for {
			if _, err := conn.Read(datagram); err != nil {
				return
			}
			select {
			case bell <- struct{}{}:
			default: // one is enough
			}
		}
	}()
	return func() {
		_ = conn.Close()
		_ = os.Remove(path)
	}, nil
}

// wait tells whether a datagram came.
func (w *Worker) wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-w.bell:
		return true
	}
	return false
}

func (w *Worker) begin(ctx context.Context) (*sql.Tx, error) {
	return w.DB.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
}

// serve is one transaction: a message, and those of its key that follow. False: there was none.
func (w *Worker) serve(ctx, stopping context.Context) (found bool, err error) {
	w.current, w.isCounted = nil, false
	tx, err := w.begin(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			w.isTogether = false
			w.recover(ctx, tx, err)
		}
	}()
	m, err := w.take(ctx, tx)
	if errors.Is(err, sql.ErrNoRows) {
		return false, tx.Rollback()
	}
	if err != nil {
		return false, err
	}
	w.current = m
	if !w.isOld || m.ID == w.suspect {
		if tx, err = w.count(ctx, tx, m); err != nil || tx == nil {
			return true, err
		}
	}
	until := time.Now().Add(followFor)
	for left := w.Follow - 1; ; left-- {
		var nextID uint64
		if tx, nextID, err = w.handle(ctx, tx, m); err != nil || tx == nil {
			w.isTogether = false
			return true, err
		}
		if nextID == 0 || left <= 0 || !w.isTogether || stopping.Err() != nil || time.Now().After(until) {
			break
		}
		m, err = scan(tx.QueryRowContext(ctx, following, nextID))
		if errors.Is(err, sql.ErrNoRows) {
			break
		}
		if err != nil {
			return true, err
		}
		w.current, w.isCounted = m, false
	}
	if err = tx.Commit(); err != nil {
		return true, err
	}
	w.current, w.isOld, w.isTogether, w.suspect, w.lockedID = nil, true, true, 0, 0
	return true, nil
}

// take begins at the row that was taken last, for before it are entries of rows that have ended, until the server has purged them;
// and at the start again as often as that is cheap, for what was committed late.
func (w *Worker) take(ctx context.Context, tx *sql.Tx) (*Message, error) {
	from, began := w.due, time.Now()
	isStart := w.due == "" || !began.Before(w.startAgain)
	if isStart {
		from = start
	}
	m, err := scan(tx.QueryRowContext(ctx, take, w.Queue, from))
	if err == nil {
		w.due = m.due
	}
	if isStart {
		w.startAgain = time.Now().Add(min(startShare*time.Since(began), longestSkip))
	}
	return m, err
}

// count counts the attempt in a commit of its own, and takes the count back in the transaction of the effect. No transaction: the
// message is dead, or somebody else's.
func (w *Worker) count(ctx context.Context, tx *sql.Tx, m *Message) (*sql.Tx, error) {
	if _, err := tx.ExecContext(ctx, count, m.ID); err != nil {
		return tx, err
	}
	if err := tx.Commit(); err != nil {
		return tx, err
	}
	w.isCounted = true
	return w.takeAgain(ctx, m)
}

// takeAgain takes the message in a new transaction, after the first has ended. No transaction: another worker has it.
func (w *Worker) takeAgain(ctx context.Context, m *Message) (*sql.Tx, error) {
	tx, err := w.begin(ctx)
	if err != nil {
		return nil, err
	}
	if w.isCounted {
		err = exec(ctx, tx, 1, counted, m.ID, m.Attempt)
	} else {
		var id uint64
		err = tx.QueryRowContext(ctx, failed, m.ID, m.Attempt).Scan(&id)
	}
	if errors.Is(err, errNotOurs) || errors.Is(err, sql.ErrNoRows) {
		return nil, tx.Rollback()
	}
	return tx, err
}

// handle handles a message up to, and without, the commit. It returns the transaction that is open now, and the id of the next of
// its key that is ours too, or 0.
func (w *Worker) handle(ctx context.Context, tx *sql.Tx, m *Message) (*sql.Tx, uint64, error) {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT rowpost"); err != nil {
		return tx, 0, err
	}
	outcome := w.call(ctx, tx, m)
	if outcome == nil {
		nextID, err := w.done(ctx, tx, m)
		return tx, nextID, err
	}
	var asked *retryError
	var rejected *rejectError
	if !errors.As(outcome, &asked) && !errors.As(outcome, &rejected) {
		if dberr.IsLocked(outcome) {
			return tx, 0, outcome
		}
		w.Log.Warn("inbox", "queue", w.Queue, "message", m.MessageID, "attempt", m.Attempt, "error", outcome)
	}
	if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT rowpost"); err != nil {
		if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
			return tx, 0, err
		}
		if tx, err = w.takeAgain(ctx, m); err != nil || tx == nil {
			return tx, 0, err
		}
	}
	return tx, 0, fail(ctx, tx, m, outcome)
}

// call calls the handler, and makes sure that its transaction is still the one that it was given.
func (w *Worker) call(ctx context.Context, tx *sql.Tx, m *Message) (outcome error) {
	defer func() {
		if r := recover(); r != nil {
			outcome = fmt.Errorf("panic: %v", r)
		}
	}()
	if err := complete(ctx, tx, m); err != nil {
		return err
	}
	if err := w.Handler(ctx, tx, m); err != nil {
		return err
	}
	// Without its savepoint the transaction was ended by the handler, or by a deadlock that it has swallowed.
	_, err := tx.ExecContext(ctx, "RELEASE SAVEPOINT rowpost")
	return err
}

func (w *Worker) done(ctx context.Context, tx *sql.Tx, m *Message) (nextID uint64, err error) {
	if m.keyHash != nil {
		err = tx.QueryRowContext(ctx, next, w.Queue, m.keyHash, m.ID).Scan(&nextID)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, err
		}
	}
	wanted := int64(1)
	if nextID != 0 {
		wanted = 2
	}
	return nextID, exec(ctx, tx, wanted, done, m.ID, nextID)
}

func fail(ctx context.Context, tx *sql.Tx, m *Message, outcome error) error {
	note := func(reason string) error {
		var rejected *rejectError
		if errors.As(outcome, &rejected) {
			return exec(ctx, tx, 1, reject, reason, m.ID)
		}
		var after any
		var asked *retryError
		if errors.As(outcome, &asked) {
			after = asked.after
		}
		return exec(ctx, tx, 1, retry, after, reason, m.ID)
	}
	err := note(reasonOf(outcome))
	if err == nil || errors.Is(err, errNotOurs) || dberr.IsLocked(err) {
		return err
	}
	// A failure that is not noted would be met again and again: it counts, whatever is wrong with its reason.
	return note(noReason)
}

// reasonOf is what is kept of a reason: valid UTF-8, cut between characters. An error may panic when it is asked for its text.
func reasonOf(outcome error) (reason string) {
	defer func() {
		if recover() != nil {
			reason = noReason
		}
	}()
	reason = outcome.Error()
	var rejected *rejectError
	if errors.As(outcome, &rejected) {
		reason = rejected.reason
	}
	reason = strings.ToValidUTF8(reason[:min(len(reason), 2*reasonBytes)], "\uFFFD")
	end := min(len(reason), reasonBytes)
	for end < len(reason) && !utf8.RuneStart(reason[end]) {
		end--
	}
	return reason[:end]
}

var errNotOurs = errors.New("the message is not ours any more")

func exec(ctx context.Context, tx *sql.Tx, wanted int64, statement string, args ...any) error {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	if changed, err := result.RowsAffected(); err != nil || changed != wanted {
		return errors.Join(errNotOurs, err)
	}
	return nil
}

// recover rolls back. The database knows what was committed. A message that meets a lock time and again must not hold its worker:
// it waits like one that has failed.
func (w *Worker) recover(ctx context.Context, tx *sql.Tx, cause error) {
	m := w.current
	if tx != nil && tx.Rollback() != nil && m != nil {
		w.suspect = m.ID // the connection is gone
		return
	}
	if m == nil || !dberr.IsLocked(cause) {
		return
	}
	if w.lockedID != m.ID {
		w.lockedID, w.lockedTimes = m.ID, 0
	}
	w.lockedTimes++
	if w.lockedTimes < locksInARow && !w.isCounted {
		return
	}
	w.lockedID = 0
	again, err := w.takeAgain(ctx, m)
	if err == nil && again != nil {
		if err = fail(ctx, again, m, cause); err == nil {
			err = again.Commit()
		}
	}
	if err != nil {
		w.Log.Warn("inbox", "queue", w.Queue, "message", m.MessageID, "error", err)
		if again != nil {
			_ = again.Rollback()
		}
	}
}

func scan(row *sql.Row) (*Message, error) {
	m := &Message{}
	var key, contentType, source, traceparent sql.NullString
	var created, received utc
	err := row.Scan(&m.ID, &m.MessageID, &m.Topic, &key, &contentType, &m.RawHeaders, &source, &traceparent, &created, &received,
		&m.Attempt, &m.MaxAttempts, &m.keyHash, &m.size, &m.Payload, &m.due)
	if err != nil {
		return nil, err
	}
	m.Key, m.HasKey = key.String, key.Valid
	m.ContentType, m.HasContentType = contentType.String, contentType.Valid
	m.Source, m.HasSource = source.String, source.Valid
	m.Traceparent, m.HasTraceparent = traceparent.String, traceparent.Valid
	m.CreatedAt, m.ReceivedAt = time.Time(created), time.Time(received)
	if m.RawHeaders != nil {
		decoder := json.NewDecoder(bytes.NewReader(m.RawHeaders))
		decoder.UseNumber() // a float64 would change numbers
		err = decoder.Decode(&m.Headers)
	}
	return m, err
}

// complete reads a payload in pieces that did not come with its row.
func complete(ctx context.Context, tx *sql.Tx, m *Message) error {
	if m.Payload != nil || m.size == 0 {
		return nil
	}
	for last := piece; last == piece; {
		var part []byte
		if err := tx.QueryRowContext(ctx, payload, len(m.Payload), piece, m.ID).Scan(&part); err != nil {
			return err
		}
		last = len(part)
		m.Payload = append(m.Payload, part...)
	}
	return nil
}

// utc is a DATETIME that was written in UTC, whatever the data source says of parseTime and loc.
type utc time.Time

func (u *utc) Scan(value any) error {
	var text string
	switch v := value.(type) {
	case nil:
		return nil
	case time.Time:
		*u = utc(time.Date(v.Year(), v.Month(), v.Day(), v.Hour(), v.Minute(), v.Second(), v.Nanosecond(), time.UTC))
		return nil
	case []byte:
		text = string(v)
	case string:
		text = v
	}
	t, err := time.ParseInLocation("2006-01-02 15:04:05.999999", text, time.UTC)
	*u = utc(t)
	return err
}
