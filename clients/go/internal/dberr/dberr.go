// Package dberr knows the server's error numbers that matter here.
package dberr

import (
	"errors"

	"github.com/go-sql-driver/mysql"
)

const (
	recordChanged = 1020 // MariaDB: the same as a deadlock
	duplicate     = 1062
	lockTimeout   = 1205
	deadlock      = 1213
)

func number(err error) uint16 {
	var server *mysql.MySQLError
	if errors.As(err, &server) {
		return server.Number
	}
	return 0
}

// IsLocked tells whether the transaction has to be rolled back, and can then succeed.
func IsLocked(err error) bool {
	n := number(err)
	return n == recordChanged || n == lockTimeout || n == deadlock
}

// IsLockTimeout tells whether somebody else's transaction was waited for in vain.
func IsLockTimeout(err error) bool { return number(err) == lockTimeout }

// IsDuplicate tells whether a unique key was there already.
func IsDuplicate(err error) bool { return number(err) == duplicate }
