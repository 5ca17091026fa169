package stdlib

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/picloud/picloud/sdk/picloud"
)

func randomBytes(args []any) (any, error) {
	n := args[0].(int64)
	if n < 0 || n > picloud.MaxRandomBytes {
		return nil, fmt.Errorf("from 0 to %d bytes are given at a time, not %d", picloud.MaxRandomBytes, n)
	}
	return picloud.RandomBytes(int(n))
}

func randomInt(args []any) (any, error) {
	low, high := args[0].(int64), args[1].(int64)
	if low > high {
		return nil, errors.New("the lower bound is above the upper one")
	}
	n, err := rand.Int(rand.Reader, big.NewInt(high-low+1))
	if err != nil {
		return nil, err
	}
	return low + n.Int64(), nil
}

// randomFloat is drawn from all 2^53 numbers that are as far from one another.
func randomFloat([]any) (any, error) {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return float64(binary.LittleEndian.Uint64(b[:])>>11) / maxInt, nil
}

func randomUUID([]any) (any, error) { return picloud.UUID(), nil }
