#!/bin/sh
# Sends a payment as the payment service would: pay.sh ADDRESS ID CUSTOMER CENTS
set -eu
body="{\"type\":\"payment.paid\",\"id\":\"$2\",\"customer\":\"$3\",\"amount\":$4}"
at=$(date +%s)
signature=$(printf '%s.%s.%s' "$2" "$at" "$body" | openssl dgst -sha256 -hmac 'picloud example key, not secret' -binary | base64)
curl -sS "$1/.picloud/webhooks/payments" -H "webhook-id: $2" -H "webhook-timestamp: $at" -H "webhook-signature: v1,$signature" \
	-H 'Content-Type: application/json' -d "$body"
