package tenant

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"

	"github.com/picloud/picloud/sdk/engine"
)

// VersionHash identifies a version: the files with their names and order, the SDK version and the limits. It is also the hash of
// its bundle, where that has no modules; see Link.
func VersionHash(files []engine.File, sdkVersion string, limits engine.Limits) string {
	h := hasher{sha256.New()}
	h.text(sdkVersion)
	for _, n := range []int{
		limits.Pool, limits.LogLines, limits.LogBytes, limits.BodyBytes, limits.Memory, int(limits.CPU), limits.Goroutines,
	} {
		h.number(n)
	}
	h.number(len(files))
	for _, f := range files {
		h.text(f.Name)
		h.text(string(f.Data))
	}
	return h.sum()
}

// hasher writes parts into a hash. Each is preceded by its length, so that no two lists of parts run together into the same bytes.
type hasher struct{ hash.Hash }

func (h hasher) number(n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func (h hasher) text(s string) {
	h.number(len(s))
	h.Write([]byte(s))
}

func (h hasher) sum() string { return hex.EncodeToString(h.Sum(nil)) }
