//go:build tools

// Package peers pins the nsqd that the tests talk to, with everything it is built from.
package peers

import _ "github.com/nsqio/nsq/apps/nsqd"
