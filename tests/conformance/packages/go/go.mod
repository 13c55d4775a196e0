module consumer

go 1.22

require (
	github.com/go-sql-driver/mysql v1.9.3
	github.com/rabbitmq/amqp091-go v1.10.0
)

require filippo.io/edwards25519 v1.1.0 // indirect
