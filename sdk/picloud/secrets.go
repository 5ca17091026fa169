package picloud

import (
	"encoding/json"
	"fmt"
)

// Secrets are values that only scripts of the app read: Context.Secrets. What a run has read or set is masked in its logs
// and errors, from four bytes on.
type Secrets struct{ runtime Runtime }

// Get decodes a secret into v, and reports whether there is one; if not, v stays as it is. Errors are *Error, but for a
// value that does not fit v.
func (s *Secrets) Get(name string, v any) (found bool, err error) {
	var answer struct {
		Value json.RawMessage `json:"value"`
	}
	if err := call(s.runtime, "secrets", "get", map[string]string{"name": name}, &answer); err != nil || answer.Value == nil {
		return false, err
	}
	if err := json.Unmarshal(answer.Value, v); err != nil {
		return true, fmt.Errorf("the secret %q is not the JSON that is expected", name) // what it is instead is no error's to say
	}
	return true, nil
}

// Text returns a secret that is text. Where there is none the error is NotFound, where it is no text InvalidArgument.
func (s *Secrets) Text(name string) (string, error) {
	var v any
	found, err := s.Get(name, &v)
	if err != nil {
		return "", err
	}
	if !found {
		return "", &Error{Code: NotFound, Message: fmt.Sprintf("there is no secret %q in this app", name)}
	}
	text, ok := v.(string)
	if !ok {
		return "", &Error{Code: InvalidArgument, Message: fmt.Sprintf("the secret %q is no text", name)}
	}
	return text, nil
}

// Set stores any value that JSON has a form for, up to 64 KiB with at most 100 texts, lines of texts, and
// numbers. The name has letters, digits, underscores, dots and dashes.
func (s *Secrets) Set(name string, v any) error {
	value, err := s.runtime.JSON(v)
	if err != nil {
		return &Error{Code: InvalidArgument, Message: "the value cannot be kept: " + err.Error()}
	}
	return call(s.runtime, "secrets", "set", struct {
		Name  string          `json:"name"`
		Value json.RawMessage `json:"value"`
	}{name, value}, &struct{}{})
}

// Delete forgets a secret, and reports whether there was one.
func (s *Secrets) Delete(name string) (bool, error) {
	var answer struct {
		Deleted bool `json:"deleted"`
	}
	err := call(s.runtime, "secrets", "delete", map[string]string{"name": name}, &answer)
	return answer.Deleted, err
}

// List returns the names of all secrets of the app, in their order.
func (s *Secrets) List() ([]string, error) {
	var answer struct {
		Names []string `json:"names"`
	}
	err := call(s.runtime, "secrets", "list", struct{}{}, &answer)
	return answer.Names, err
}
