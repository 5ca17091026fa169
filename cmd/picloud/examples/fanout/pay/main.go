// pay sends a payment as the payment service would: go run ./pay ADDRESS ID CUSTOMER CENTS
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// key is that of payments.key, without what goes before the base64.
const key = "cGljbG91ZCBleGFtcGxlIGtleSwgbm90IHNlY3JldA=="

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: pay ADDRESS ID CUSTOMER CENTS")
		os.Exit(2)
	}
	if err := pay(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, "pay:", err)
		os.Exit(1)
	}
}

// pay signs as https://www.standardwebhooks.com says.
func pay(address, id, customer, cents string) error {
	body := fmt.Sprintf(`{"type":"payment.paid","id":%q,"customer":%q,"amount":%s}`, id, customer, cents)
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return err
	}
	at := time.Now().Unix()
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%d.%s", id, at, body)

	req, err := http.NewRequest(http.MethodPost, address+"/.picloud/webhooks/payments", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", fmt.Sprint(at))
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(os.Stdout, res.Body); err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("the answer is %s", res.Status)
	}
	return nil
}
