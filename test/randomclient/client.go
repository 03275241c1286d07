package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
)

// reply is the answer to a request: a JSON object or list.
type reply struct {
	status int
	body   map[string]any
	list   []any
}

func (r reply) ok() bool { return r.status == http.StatusOK }

// call sends a request. An error means that there was no answer, or none that a client can read.
func (w *model) call(client *http.Client, token, method, path string, query url.Values, body any, sent func()) (reply, error) {
	w.requests.Add(1)
	address := "http://" + w.srv.addr + "/_matrix/client" + path
	if len(query) > 0 {
		address += "?" + query.Encode()
	}
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return reply{}, err
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequest(method, address, content)
	if err != nil {
		return reply{}, err
	}
	if sent != nil {
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { sent() }}))
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return reply{}, err
	}
	out := reply{status: res.StatusCode}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if len(text) > 0 && text[0] == '[' {
		err = decoder.Decode(&out.list)
	} else {
		err = decoder.Decode(&out.body)
	}
	if err != nil {
		return out, fmt.Errorf("%s %s answers %d and %.200q: %w", method, path, res.StatusCode, text, err)
	}
	if out.status >= 500 {
		return out, fmt.Errorf("%s %s answers %d: %s", method, path, out.status, text)
	}
	return out, nil
}

// ask sends a request of a device and writes the answer down.
func (d *device) ask(method, path string, query url.Values, body any) (reply, error) {
	res, err := d.w.call(http.DefaultClient, d.token, method, path, query, body, nil)
	if err != nil {
		return res, err
	}
	shown, _ := url.PathUnescape(path)
	if len(query) > 0 && query.Get("from") == "" {
		shown += "?" + query.Encode()
	}
	d.w.note(d.name, method, shown, body, res)
	return res, nil
}

func (w *model) note(actor, method, path string, body any, res reply) {
	w.transcript.answer(actor, method, path, res.status, res.body, res.list)
	if w.verbose {
		text, _ := json.Marshal(body)
		said := w.transcript.lines[len(w.transcript.lines)-1]
		if body != nil {
			said += "  <- " + w.transcript.text(string(text))
		}
		fmt.Printf("%.2000s\n", said)
	}
}

// path makes a path of escaped parts.
func path(format string, parts ...string) string {
	escaped := make([]any, len(parts))
	for i, p := range parts {
		escaped[i] = url.PathEscape(p)
	}
	return fmt.Sprintf(format, escaped...)
}

func object(v map[string]any, keys ...string) map[string]any {
	for _, k := range keys {
		v, _ = v[k].(map[string]any)
	}
	return v
}

func text(v map[string]any, key string) string {
	s, _ := v[key].(string)
	return s
}

func number(v map[string]any, key string) int {
	n, _ := v[key].(json.Number)
	i, _ := n.Int64()
	return int(i)
}

// events are the events of a list such as {"events":[...]}.
func events(v map[string]any, key string) []map[string]any {
	list, _ := object(v, key)["events"].([]any)
	return objects(list)
}

func objects(list []any) []map[string]any {
	out := make([]map[string]any, 0, len(list))
	for _, x := range list {
		if o, ok := x.(map[string]any); ok {
			out = append(out, o)
		}
	}
	return out
}

func texts(v any) []string {
	list, _ := v.([]any)
	out := make([]string, 0, len(list))
	for _, x := range list {
		if s, ok := x.(string); ok {
			out = append(out, s)
		}
	}
	return out
}
