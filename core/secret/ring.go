package secret

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// masterBytes is the length of a master key.
const masterBytes = 32

// Masters are the keys of the node: the first closes the ring of keys, and any opens it, so that the first can be another
// one than before. Empty: there is none.
type Masters []tink.AEAD

// ParseMasters reads keys that are separated by commas, each 32 bytes in base64.
func ParseMasters(text string) (Masters, error) {
	var out Masters
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(part))
		if err != nil || len(key) != masterBytes {
			return nil, fmt.Errorf("a key is %d bytes in base64, as `openssl rand -base64 %d` makes them", masterBytes, masterBytes)
		}
		master, err := subtle.NewAESGCM(key)
		if err != nil {
			return nil, fmt.Errorf("master key: %w", err)
		}
		out = append(out, master)
	}
	return out, nil
}

// ringUse is what a ring is bound to, so that nothing else that a master key has closed passes for one.
var ringUse = []byte("picloud secrets")

// ring is the keys that secrets are sealed with: the primary seals, and each opens what it has sealed.
type ring struct {
	keys *keyset.Handle
	aead tink.AEAD
}

// errOtherKey says that the ring was closed with another master key.
var errOtherKey = errors.New("none of this node's keys opens the secrets")

func newRing() (*ring, error) {
	keys, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return ringOf(keys)
}

func ringOf(keys *keyset.Handle) (*ring, error) {
	cipher, err := aead.New(keys)
	if err != nil {
		return nil, fmt.Errorf("use the keys: %w", err)
	}
	return &ring{keys, cipher}, nil
}

// openRing reads what close wrote, with whichever master key fits.
func openRing(masters Masters, closed []byte) (*ring, error) {
	for _, m := range masters {
		if keys, err := keyset.ReadWithAssociatedData(keyset.NewBinaryReader(bytes.NewReader(closed)), m, ringUse); err == nil {
			return ringOf(keys)
		}
	}
	return nil, errOtherKey
}

// close makes of a ring what can be stored.
func (r *ring) close(masters Masters) ([]byte, error) {
	var b bytes.Buffer
	if err := r.keys.WriteWithAssociatedData(keyset.NewBinaryWriter(&b), masters[0], ringUse); err != nil {
		return nil, fmt.Errorf("close the keys: %w", err)
	}
	return b.Bytes(), nil
}

// primary is the id of the key that seals.
func (r *ring) primary() int64 { return int64(r.keys.KeysetInfo().GetPrimaryKeyId()) }

// old reports whether there are keys beside the primary.
func (r *ring) old() bool { return r.keys.Len() > 1 }

// turn adds a key that seals from now on.
func (r *ring) turn() (*ring, error) {
	m := keyset.NewManagerFromHandle(r.keys)
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err != nil {
		return nil, fmt.Errorf("add a key: %w", err)
	}
	return managed(m)
}

// shed leaves nothing but the primary.
func (r *ring) shed() (*ring, error) {
	m := keyset.NewManagerFromHandle(r.keys)
	for _, k := range r.keys.KeysetInfo().GetKeyInfo() {
		if int64(k.GetKeyId()) == r.primary() {
			continue
		}
		if err := m.Delete(k.GetKeyId()); err != nil {
			return nil, fmt.Errorf("delete a key: %w", err)
		}
	}
	return managed(m)
}

func managed(m *keyset.Manager) (*ring, error) {
	keys, err := m.Handle()
	if err != nil {
		return nil, err
	}
	return ringOf(keys)
}

// use is what a sealed value is bound to: its place. What is moved to another row does not open.
func use(app uuid.UUID, name string) []byte {
	return append(append([]byte("secret "), app[:]...), name...)
}

func (r *ring) seal(app uuid.UUID, name string, value []byte) (Sealed, error) {
	text, err := r.aead.Encrypt(value, use(app, name))
	if err != nil {
		return Sealed{}, fmt.Errorf("seal: %w", err)
	}
	return Sealed{Key: r.primary(), Text: text}, nil
}

func (r *ring) open(app uuid.UUID, name string, s Sealed) ([]byte, error) {
	value, err := r.aead.Decrypt(s.Text, use(app, name))
	if err != nil {
		return nil, errSpoiled
	}
	return value, nil
}

// errSpoiled says that a stored value is not what was sealed for its place.
var errSpoiled = errors.New("the stored value is not the one that was sealed under this name")
