// Package outbox sends: a row in the transaction of your own writes. It is published if, and only if, you commit.
package outbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"
)

// Execer is the transaction (or connection) that you have: a *sql.Tx, usually.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Message is what is sent. Topic and Payload are all that it needs; the zero value of the others means "not given".
type Message struct {
	Topic   string
	Payload []byte         // sent byte for byte
	Key     string         // messages of one key keep their order
	Headers map[string]any // a JSON object
	// ContentType is application/json if not given.
	ContentType string
	// DeliverAt is for later, DeliverIn likewise, from the database's now.
	DeliverAt time.Time
	DeliverIn time.Duration
	// ReceiptFrom names the consumer groups that have to report the message as applied, comma-separated.
	ReceiptFrom string
	// OnRejected is the topic of the compensation when one of them rejects it.
	OnRejected string
	// MessageID is made if not given.
	MessageID string
	// Table is another outbox table than "outbox".
	Table string
}

var tableName = regexp.MustCompile(`^[A-Za-z0-9_.$-]{1,64}$`)

// Add adds a message to the outbox in the transaction tx, and returns its id. Nothing is committed here.
func Add(ctx context.Context, tx Execer, m Message) (string, error) {
	table := or(m.Table, "outbox")
	if !tableName.MatchString(table) {
		return "", fmt.Errorf("rowpost: %q cannot be the name of an outbox table", table)
	}
	if !m.DeliverAt.IsZero() && m.DeliverIn != 0 {
		return "", errors.New("rowpost: DeliverAt and DeliverIn exclude each other")
	}
	var headers any
	if m.Headers != nil {
		text, err := json.Marshal(m.Headers)
		if err != nil {
			return "", fmt.Errorf("rowpost: headers: %w", err)
		}
		headers = string(text)
	}
	id := m.MessageID
	if id == "" {
		id = NewMessageID()
	}
	payload := m.Payload
	if payload == nil {
		payload = []byte{} // nil would be NULL
	}
	columns := []string{"message_id", "topic", "ordering_key", "headers", "content_type", "payload", "receipt_from", "on_rejected"}
	args := []any{id, m.Topic, null(m.Key), headers, or(m.ContentType, "application/json"), payload, null(m.ReceiptFrom), null(m.OnRejected)}
	marks := strings.Split(strings.Repeat("?", len(args)), "")
	if !m.DeliverAt.IsZero() || m.DeliverIn != 0 {
		columns = append(columns, "outbox", "deliver_at")
		marks = append(marks, "?")
		args = append(args, table)
		table = "outbox_delayed"
		if m.DeliverIn != 0 {
			marks, args = append(marks, "UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND"), append(args, m.DeliverIn.Microseconds())
		} else {
			// As text: a time.Time would be sent in the zone of the data source's loc.
			marks, args = append(marks, "?"), append(args, m.DeliverAt.UTC().Format("2006-01-02 15:04:05.000000"))
		}
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf("INSERT INTO `%s` (%s) VALUES (%s)", table, strings.Join(columns, ", "), strings.Join(marks, ", ")), args...)
	if err != nil {
		return "", err
	}
	return id, nil
}

// Ring lets the relay look at once instead of at its next poll; after the commit. It is a hint: false means that the relay was
// not reached and will look by itself. doorbell is the relay's doorbell_socket, or host:port.
func Ring(doorbell, outbox string) bool {
	network := "udp"
	if strings.Contains(doorbell, "/") {
		network = "unixgram"
	}
	bell, err := net.Dial(network, doorbell)
	if err != nil {
		return false
	}
	defer bell.Close()
	// A full socket must not hold up the caller for long: the relay has rings enough then.
	if bell.SetWriteDeadline(time.Now().Add(100*time.Millisecond)) != nil {
		return false
	}
	_, err = bell.Write([]byte(outbox))
	return err == nil
}

// NewMessageID makes a UUID version 7: it never comes again, and sorts by time.
func NewMessageID() string {
	var id [16]byte
	if _, err := rand.Read(id[6:]); err != nil {
		panic(err) // no system that this runs on
	}
	var now [8]byte
	binary.BigEndian.PutUint64(now[:], uint64(time.Now().UnixMilli()))
	copy(id[:6], now[2:])
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

func null(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
