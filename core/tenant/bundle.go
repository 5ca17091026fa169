package tenant

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/picloud/picloud/sdk/engine"
)

// BundleHash identifies what an engine loads: the files with their names and order, the modules, the SDK version and the limits.
// Every part is preceded by its length, so that no two bundles run together into the same bytes.
func BundleHash(files []engine.File, modules []engine.Module, sdkVersion string, limits engine.Limits) string {
	h := sha256.New()
	number := func(n int) {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(n))
		h.Write(b[:])
	}
	text := func(s []byte) {
		number(len(s))
		h.Write(s)
	}
	text([]byte(sdkVersion))
	for _, n := range []int{
		limits.Pool, limits.LogLines, limits.LogBytes, limits.BodyBytes, limits.Memory, int(limits.CPU), limits.Goroutines,
	} {
		number(n)
	}
	program := func(files []engine.File) {
		number(len(files))
		for _, f := range files {
			text([]byte(f.Name))
			text(f.Data)
		}
	}
	program(files)
	number(len(modules))
	for _, m := range modules {
		text([]byte(m.Name))
		program(m.Files)
	}
	return hex.EncodeToString(h.Sum(nil))
}
