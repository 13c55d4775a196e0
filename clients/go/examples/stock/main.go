// The stock service: takes orders from the inbox, and says through the outbox what it has reserved.
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-sql-driver/mysql"

	"rowpost/inbox"
	"rowpost/outbox"
)

func onOrder(ctx context.Context, tx *sql.Tx, m *inbox.Message) error {
	var order struct {
		SKU      string
		Quantity int
	}
	if err := json.Unmarshal(m.Payload, &order); err != nil {
		return inbox.Reject(err.Error())
	}
	result, err := tx.ExecContext(ctx, "UPDATE stock SET on_hand = on_hand - ? WHERE sku = ?",
		order.Quantity, order.SKU)
	if err != nil {
		return err // undone, and tried again
	}
	if changed, _ := result.RowsAffected(); changed == 0 {
		return inbox.Reject("no such article")
	}
	_, err = outbox.Add(ctx, tx, outbox.Message{Topic: "stock.reserved", Payload: m.Payload, Key: order.SKU})
	return err
}

func main() {
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", os.Getenv("DB_HOST")+":"+os.Getenv("DB_PORT")
	config.User, config.Passwd, config.DBName = os.Getenv("DB_USER"), os.Getenv("DB_PASSWORD"), os.Getenv("DB_NAME")
	connector, err := mysql.NewConnector(config)
	if err != nil {
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := inbox.Work(ctx, sql.OpenDB(connector), "stock", onOrder); err != nil {
		log.Fatal(err)
	}
}
