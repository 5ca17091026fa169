package picloud

import (
	"crypto/rand"
	"fmt"
)

// MaxRandomBytes is how many bytes RandomBytes gives at a time.
const MaxRandomBytes = 64 << 10

// RandomBytes returns n random bytes, from 0 to MaxRandomBytes, that nobody can foresee: for tokens and keys.
func RandomBytes(n int) ([]byte, error) {
	if n < 0 || n > MaxRandomBytes {
		return nil, fmt.Errorf("RandomBytes: from 0 to %d bytes are given at a time, not %d", MaxRandomBytes, n)
	}
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b, nil
}

// UUID returns a random one, version 4 of RFC 9562.
func UUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
