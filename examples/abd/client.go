package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

// question and reply are the lines that splitbrain and a client exchange.
type question struct {
	ID       int             `json:"id"`
	F        string          `json:"f"`
	Key      json.RawMessage `json:"key"`
	Value    json.RawMessage `json:"value"`
	TimeoutS float64         `json:"timeout_s"`
}

type reply struct {
	ID    int             `json:"id"`
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

// client answers one question after the other. Each is one request on a connection of its own: nothing is sent
// twice, and no late answer can reach the next question.
func client(in io.Reader, out io.Writer) {
	var base string
	lines, answers := bufio.NewScanner(in), json.NewEncoder(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintf(os.Stderr, "not a question: %s\n", lines.Bytes())
			os.Exit(1)
		}
		r := reply{ID: q.ID, Type: "ok"}
		if q.F == "open" {
			var about struct {
				Node  struct{ Address string }
				Ports map[string]int
			}
			if err := json.Unmarshal(q.Value, &about); err != nil {
				r.Type, r.Error = "fail", err.Error()
			}
			base = fmt.Sprintf("http://%s/kv/", net.JoinHostPort(about.Node.Address, fmt.Sprint(about.Ports["client"])))
		} else {
			r.Value, r.Type, r.Error = operate(base, q)
		}
		if answers.Encode(r) != nil {
			return
		}
	}
}

// operate does one operation: its value, and what is known of its outcome.
func operate(base string, q question) (json.RawMessage, string, string) {
	method, body := http.MethodGet, []byte(nil)
	switch q.F {
	case "read":
	case "write":
		method, body = http.MethodPut, append(append([]byte(`{"value":`), q.Value...), '}')
	default:
		return nil, "fail", "no such operation"
	}
	request, err := http.NewRequest(method, base+url.PathEscape(string(q.Key)), bytes.NewReader(body))
	if err != nil {
		return nil, "fail", err.Error()
	}
	once := http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // which repeats nothing: it only would on a kept one
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       time.Duration(q.TimeoutS * float64(time.Second)),
	}
	response, err := once.Do(request)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, "fail", "refused" // there was nobody to send it to
	}
	if err != nil {
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			return nil, "info", "timeout"
		}
		return nil, "info", "connection lost"
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	var got struct{ Value json.RawMessage }
	switch {
	case err != nil:
		return nil, "info", "connection lost"
	case response.StatusCode != 200 && q.F == "read":
		return nil, "fail", response.Status // a read changes nothing
	case response.StatusCode != 200:
		return nil, "info", response.Status // a minority may have it already
	case json.Unmarshal(said, &got) != nil:
		return nil, "info", "garbage"
	}
	if q.F == "write" {
		return nil, "ok", ""
	}
	return got.Value, "ok", ""
}
