// The adapter of clients/go; see ../README.md.
package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"rowpost/half"
	"rowpost/inbox"
	"rowpost/outbox"
)

type message struct {
	Topic       string
	Payload     []byte
	Key         string
	Headers     map[string]any
	ContentType string  `json:"content_type"`
	ReceiptFrom string  `json:"receipt_from"`
	OnRejected  string  `json:"on_rejected"`
	MessageID   string  `json:"message_id"`
	DeliverInMs int64   `json:"deliver_in_ms"`
	DeliverAt   float64 `json:"deliver_at"`
}

type command struct {
	Do, End, Doorbell, Outbox, Queue string
	Messages                         []message
	Poll                             float64
	WakeDir                          string `json:"wake_dir"`
	Follow                           int
	URL, Token, Call, GID, Producer  string
	Commit, Rollback                 []message
	Async                            bool
}

type object = map[string]any

var (
	ctx  = context.Background()
	db   *sql.DB
	said sync.Mutex
)

func say(event string, more object) {
	said.Lock()
	defer said.Unlock()
	if more == nil {
		more = object{}
	}
	more["event"] = event
	text, _ := json.Marshal(more)
	fmt.Println(string(text))
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func open() *sql.DB {
	var at struct {
		Host, User, Password, Database string
		Port                           int
	}
	must(json.Unmarshal([]byte(os.Getenv("ROWPOST_DB")), &at))
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", fmt.Sprintf("%s:%d", at.Host, at.Port)
	config.User, config.Passwd, config.DBName = at.User, at.Password, at.Database
	config.Params = map[string]string{"innodb_lock_wait_timeout": "1"}
	connector, err := mysql.NewConnector(config)
	must(err)
	return sql.OpenDB(connector)
}

func add(c command) {
	ids := []string{}
	tx, err := db.BeginTx(ctx, nil)
	must(err)
	for _, m := range c.Messages {
		of := outbox.Message{Topic: m.Topic, Payload: m.Payload, Key: m.Key, Headers: m.Headers, ContentType: m.ContentType,
			ReceiptFrom: m.ReceiptFrom, OnRejected: m.OnRejected, MessageID: m.MessageID}
		of.DeliverIn = time.Duration(m.DeliverInMs) * time.Millisecond
		if m.DeliverAt != 0 {
			of.DeliverAt = time.UnixMicro(int64(m.DeliverAt * 1e6)).In(time.FixedZone("east", 5*3600))
		}
		id, err := outbox.Add(ctx, tx, of)
		must(err)
		ids = append(ids, id)
	}
	must(end(tx, c.End))
	say("added", object{"ids": ids})
}

func end(tx *sql.Tx, how string) error {
	if how == "commit" {
		return tx.Commit()
	}
	return tx.Rollback()
}

func null(text string, has bool) any {
	if !has {
		return nil
	}
	return text
}

func effect(tx *sql.Tx, m *inbox.Message) error {
	sum := sha256.Sum256(m.Payload)
	headers, err := json.Marshal(m.Headers)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO effect (queue, message_id, topic, ordering_key, content_type, headers, source, traceparent,"+
		" attempt, size, sha) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", m.Headers["queue"], m.MessageID, m.Topic, null(m.Key, m.HasKey),
		null(m.ContentType, m.HasContentType), string(headers), null(m.Source, m.HasSource), null(m.Traceparent, m.HasTraceparent),
		m.Attempt, len(m.Payload), hex.EncodeToString(sum[:]))
	return err
}

func handler(ctx context.Context, tx *sql.Tx, m *inbox.Message) error {
	say("handling", object{"message_id": m.MessageID, "attempt": m.Attempt})
	do, _ := m.Headers["do"].(string)
	if times, ok := m.Headers["times"].(json.Number); ok {
		if n, _ := times.Int64(); int64(m.Attempt) > n {
			do = ""
		}
	}
	if do == "lock" {
		if _, err := tx.ExecContext(ctx, "UPDATE contended SET n = n + 1 WHERE id = 1"); err != nil {
			return err
		}
	}
	if err := effect(tx, m); err != nil {
		return err
	}
	switch do {
	case "raise":
		panic("boom")
	case "retry":
		return fmt.Errorf("wrapped: %w", inbox.Retry("later", 50*time.Millisecond))
	case "return-retry":
		return inbox.Retry("later", 50*time.Millisecond)
	case "reject":
		return fmt.Errorf("wrapped: %w", inbox.Reject("never"))
	case "return-reject":
		return inbox.Reject("never")
	case "raise-odd":
		return errors.New("odd \xff" + strings.Repeat("🔑", 2000))
	case "reject-odd":
		return inbox.Reject("\xff")
	case "retry-odd":
		return inbox.Retry("\xf0\x9f", 0)
	case "rollback":
		return tx.Rollback()
	case "hang":
		say("hanging", nil)
		time.Sleep(time.Second)
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	return nil
}

func ofHalf(list []message) (made []half.Message) {
	for _, m := range list {
		made = append(made, half.Message{Topic: m.Topic, Payload: m.Payload, Key: m.Key, Headers: m.Headers, ContentType: m.ContentType,
			ReceiptFrom: m.ReceiptFrom, OnRejected: m.OnRejected, MessageID: m.MessageID})
	}
	return made
}

func callHalf(c command) {
	client := &half.Client{URL: c.URL, Token: c.Token}
	var state *half.State
	var err error
	if c.Async {
		c.Call += " async"
	}
	switch c.Call {
	case "commit async":
		state, err = client.CommitAsync(ctx, c.GID)
	case "rollback async":
		state, err = client.RollbackAsync(ctx, c.GID)
	case "prepare":
		state, err = client.Prepare(ctx, c.GID, c.Producer, ofHalf(c.Commit), ofHalf(c.Rollback))
	case "commit":
		state, err = client.Commit(ctx, c.GID)
	case "rollback":
		state, err = client.Rollback(ctx, c.GID)
	default:
		state, err = client.Lookup(ctx, c.GID)
	}
	var refused *half.Refused
	if errors.As(err, &refused) {
		say("refused", object{"reason": refused.Reason, "status": refused.Status})
		return
	}
	must(err)
	say("answered", object{"state": state.State})
}

func local(c command) {
	outcome := map[string]string{"commit": "committed", "rollback": "rolled_back"}[c.End]
	tx, err := db.BeginTx(ctx, nil)
	must(err)
	err = half.Barrier(ctx, tx, c.GID)
	if errors.Is(err, half.ErrDecided) {
		outcome = "decided"
		must(tx.Rollback())
	} else {
		must(err)
		_, err = tx.ExecContext(ctx, "INSERT INTO effect (queue, message_id) VALUES ('local', ?)", c.GID)
		must(err)
		must(end(tx, c.End))
	}
	say("local", object{"outcome": outcome})
}

func serve(c command) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() { must(http.Serve(listener, half.CheckHandler(db, c.Token))) }()
	say("serving", object{"port": listener.Addr().(*net.TCPAddr).Port})
}

func main() {
	var stop context.CancelFunc
	var ended sync.WaitGroup
	db = open()
	say("ready", object{"can": []string{"wake"}})
	lines := bufio.NewReader(os.Stdin)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var c command
		must(json.Unmarshal(line, &c))
		switch c.Do {
		case "add":
			add(c)
		case "ring":
			say("rang", object{"ok": outbox.Ring(c.Doorbell, c.Outbox)})
		case "work":
			var working context.Context
			working, stop = context.WithCancel(ctx)
			worker := &inbox.Worker{DB: db, Queue: c.Queue, Handler: handler, Poll: time.Duration(c.Poll * float64(time.Second)),
				WakeDir: c.WakeDir, Follow: c.Follow}
			ended.Add(1)
			go func() {
				defer ended.Done()
				must(worker.Run(working))
			}()
		case "stop":
			stop()
			ended.Wait()
			say("stopped", nil)
		case "half":
			callHalf(c)
		case "local":
			local(c)
		case "serve":
			serve(c)
		}
	}
}
