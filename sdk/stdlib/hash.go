package stdlib

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"hash"
)

func digest(make func() hash.Hash) func([]any) (any, error) {
	return func(args []any) (any, error) {
		h := make()
		h.Write(args[0].([]byte))
		return h.Sum(nil), nil
	}
}

func mac(make func() hash.Hash) func([]any) (any, error) {
	return func(args []any) (any, error) {
		h := hmac.New(make, args[0].([]byte))
		h.Write(args[1].([]byte))
		return h.Sum(nil), nil
	}
}

// equal takes as long whatever two values of one length hold.
func equal(args []any) (any, error) {
	return subtle.ConstantTimeCompare(args[0].([]byte), args[1].([]byte)) == 1, nil
}

// functions of hash, one for each algorithm.
func hashes() (list []Function) {
	for _, h := range []struct {
		name, inGo, says string
		make             func() hash.Hash
	}{
		{"sha256", "sha256.Sum256", "The SHA-256 of data, 32 bytes.", sha256.New},
		{"sha512", "sha512.Sum512", "The SHA-512 of data, 64 bytes.", sha512.New},
		{"sha1", "sha1.Sum", "The SHA-1 of data, 20 bytes: for what others ask for, as it can be forged.", sha1.New},
		{"md5", "md5.Sum", "The MD5 of data, 16 bytes: likewise.", md5.New},
	} {
		list = append(list, Function{
			Module: "hash", Name: h.name, Params: []Param{{Name: "data", Kind: Data}}, Result: Data, TS: "Uint8Array", Go: h.inGo + "(data)",
			Says: h.says, call: digest(h.make),
		})
	}
	for _, h := range []struct {
		name, inGo, says string
		make             func() hash.Hash
	}{
		{"hmac_sha256", "sha256.New", "The HMAC of data by RFC 2104, with SHA-256.", sha256.New},
		{"hmac_sha512", "sha512.New", "The same with SHA-512.", sha512.New},
		{"hmac_sha1", "sha1.New", "The same with SHA-1.", sha1.New},
	} {
		list = append(list, Function{
			Module: "hash", Name: h.name, Params: []Param{{Name: "key", Kind: Data}, {Name: "data", Kind: Data}}, Result: Data, TS: "Uint8Array",
			Go: "hmac.New(" + h.inGo + ", key)", Says: h.says, call: mac(h.make),
		})
	}
	return append(list, Function{
		Module: "hash", Name: "equal", Params: []Param{{Name: "a", Kind: Data}, {Name: "b", Kind: Data}}, Result: Bool, TS: "boolean",
		Go: "hmac.Equal(a, b)", Says: "Whether two values are the same, told in the same time wherever they differ: for signatures and tokens.", call: equal,
	})
}
