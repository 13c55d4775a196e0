// Package half is for messages that are sent exactly when work outside of the outbox's database succeeds
// (docs/half-messages.md): Prepare, the local transaction with Barrier as its first statement, then Commit or Rollback. If the
// producer dies in between, the relay asks the check address, see CheckHandler.
package half

import (
	"bytes"
	"context"
	"crypto/subtle"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rowpost/internal/dberr"
)

const answerMax = 16 << 20

// Message is one of a half-message; the same words as outbox.Message.
type Message struct {
	Topic       string         `json:"topic"`
	Payload     []byte         `json:"payload_base64"`
	Key         string         `json:"ordering_key,omitempty"`
	Headers     map[string]any `json:"headers,omitempty"`
	ContentType string         `json:"content_type,omitempty"` // application/json if not given
	ReceiptFrom string         `json:"receipt_from,omitempty"`
	OnRejected  string         `json:"on_rejected,omitempty"`
	MessageID   string         `json:"message_id,omitempty"`
}

// State is what the relay answers.
type State struct {
	GID       string `json:"gid"`
	State     string `json:"state"` // prepared, committed, rolled_back, parked; accepted: CommitAsync, RollbackAsync
	DecidedBy string `json:"decided_by"`
	DecidedAt string `json:"decided_at"`
	Repeated  bool   `json:"repeated"`
}

// Refused is a clear no: already_committed, gid_reused, unknown_gid, ...
type Refused struct {
	Status          int
	Reason, Message string
}

func (e *Refused) Error() string { return fmt.Sprintf("%d %s: %s", e.Status, e.Reason, e.Message) }

// ErrUnanswered: no clear answer in time. Perhaps done. Repeat it, or leave it to check-back.
var ErrUnanswered = errors.New("rowpost: no answer from the relay")

// ErrDecided: the barrier is taken: a check has decided first, or this gid was used before. Roll back.
var ErrDecided = errors.New("rowpost: decided before")

// Client is the relay's API. Requests are repeated while there is no clear answer, until the context ends or Patience is over.
type Client struct {
	URL, Token string
	Patience   time.Duration // 0: 20 s
	HTTP       *http.Client  // nil: one with a time limit of 2 s
}

// Prepare makes commit (and rollback) durable and invisible. Start the local transaction only when it has returned without error.
func (c *Client) Prepare(ctx context.Context, gid, producer string, commit, rollback []Message) (*State, error) {
	for _, list := range [][]Message{commit, rollback} {
		for i := range list {
			if list[i].ContentType == "" {
				list[i].ContentType = "application/json"
			}
			if list[i].Payload == nil {
				list[i].Payload = []byte{}
			}
		}
	}
	body, err := json.Marshal(map[string]any{"gid": gid, "producer": producer, "commit": commit, "rollback": rollback})
	if err != nil {
		return nil, err
	}
	return c.call(ctx, http.MethodPost, "", gid, body, "")
}

// Commit sends the messages of commit.
func (c *Client) Commit(ctx context.Context, gid string) (*State, error) {
	return c.call(ctx, http.MethodPost, "/"+url.PathEscape(gid)+"/commit", gid, nil, "")
}

// CommitAsync is Commit that returns when the relay has queued the verdict (State is "accepted"). Should it be lost there,
// check-back finds out; then nobody says of a conflict.
func (c *Client) CommitAsync(ctx context.Context, gid string) (*State, error) {
	return c.call(ctx, http.MethodPost, "/"+url.PathEscape(gid)+"/commit", gid, nil, "respond-async")
}

// Rollback sends those of rollback, if there are any.
func (c *Client) Rollback(ctx context.Context, gid string) (*State, error) {
	return c.call(ctx, http.MethodPost, "/"+url.PathEscape(gid)+"/rollback", gid, nil, "")
}

// RollbackAsync is to Rollback as CommitAsync to Commit.
func (c *Client) RollbackAsync(ctx context.Context, gid string) (*State, error) {
	return c.call(ctx, http.MethodPost, "/"+url.PathEscape(gid)+"/rollback", gid, nil, "respond-async")
}

// Lookup tells what the relay has.
func (c *Client) Lookup(ctx context.Context, gid string) (*State, error) {
	return c.call(ctx, http.MethodGet, "/"+url.PathEscape(gid), gid, nil, "")
}

// direct sends the token, and messages, to the relay's address and nowhere else: no redirects, no proxies.
var direct = &http.Client{
	Timeout:       2 * time.Second,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// The bytes of a repeated prepare are the same: printed again they might be another prepare.
func (c *Client) call(ctx context.Context, method, path, gid string, body []byte, prefer string) (*State, error) {
	client, patience := c.HTTP, c.Patience
	if client == nil {
		client = direct
	}
	if patience == 0 {
		patience = 20 * time.Second
	}
	address := strings.TrimRight(c.URL, "/") + "/v1/half-messages" + path
	until, pause := time.Now().Add(patience), 50*time.Millisecond
	for {
		state, err := c.once(ctx, client, method, address, gid, body, prefer)
		var refused *Refused
		if err == nil || errors.As(err, &refused) {
			return state, err
		}
		if time.Now().Add(pause).After(until) {
			return nil, fmt.Errorf("%w: %w", ErrUnanswered, err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrUnanswered, ctx.Err())
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

func (c *Client) once(ctx context.Context, client *http.Client, method, address, gid string, body []byte, prefer string) (*State, error) {
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+c.Token)
	request.Header.Set("Content-Type", "application/json")
	if prefer != "" {
		request.Header.Set("Prefer", prefer)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerMax))
	if err != nil {
		return nil, err
	}
	var said struct {
		State
		Error struct{ Reason, Message string }
	}
	err = json.Unmarshal(text, &said)
	switch {
	case answer.StatusCode >= 500 || answer.StatusCode < 400 && answer.StatusCode >= 300:
		return nil, errors.New(answer.Status)
	case answer.StatusCode >= 400:
		return nil, &Refused{answer.StatusCode, said.Error.Reason, said.Error.Message}
	case err != nil || said.GID != gid:
		return nil, errors.New("an answer that names no gid") // something else stands at this address
	}
	return &said.State, nil
}

// Barrier is the first statement of the local transaction. ErrDecided: roll back, and do not try again.
func Barrier(ctx context.Context, tx *sql.Tx, gid string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO half_barrier (gid) VALUES (?)", gid)
	if dberr.IsDuplicate(err) {
		return fmt.Errorf("%w: %w", ErrDecided, err)
	}
	return err
}

// Check tells what became of the local transaction: "committed", "rolled_back" (and it stays so), or "in_progress".
func Check(ctx context.Context, db *sql.DB, gid string) (state string, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_, err = conn.ExecContext(ctx, "SET @rowpost_wait = @@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 1, autocommit = 1")
	if err != nil {
		return "", err
	}
	defer func() {
		// Also when the caller has gone: the connection goes back to the pool.
		_, restoring := conn.ExecContext(context.WithoutCancel(ctx), "SET SESSION innodb_lock_wait_timeout = @rowpost_wait")
		err = errors.Join(err, restoring)
	}()
	_, err = conn.ExecContext(ctx, "INSERT INTO half_barrier (gid, reason) VALUES (?, 'rollback')", gid)
	switch {
	case err == nil:
		return "rolled_back", nil
	case dberr.IsLockTimeout(err):
		return "in_progress", nil
	case !dberr.IsDuplicate(err):
		return "", err
	}
	var reason string
	err = conn.QueryRowContext(ctx, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'", gid).Scan(&reason)
	if reason == "commit" {
		return "committed", err
	}
	return "rolled_back", err
}

// CheckHandler is the check address: GET ?gid=GID with the bearer token of the relay's [producer] section.
func CheckHandler(db *sql.DB, token string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gids := r.URL.Query()["gid"]
		switch {
		case subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), []byte("Bearer "+token)) != 1:
			w.WriteHeader(http.StatusUnauthorized)
		case len(gids) != 1 || gids[0] == "" || len(gids[0]) > 128:
			w.WriteHeader(http.StatusBadRequest)
		default:
			state, err := Check(r.Context(), db, gids[0])
			if err != nil { // no answer that counts: the relay asks again
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(map[string]string{"state": state})
		}
	})
}
