package kit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// API is where the paths of the client-server API begin.
const API = "/_matrix/client/v3"

// Password is that of the accounts that Register makes.
const Password = "a password for tests 7"

// Client is a client of the client-server API: one address, one access token.
type Client struct {
	Base  string // http://host:port
	Token string // "" before login
	HTTP  *http.Client
	// Once forbids net/http to send a request with a body again by itself where it may.
	Once bool
}

// Answer is what came back.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Instance is the name of the instance that answered.
func (a *Answer) Instance() string { return a.Header.Get("X-Stoa-Instance") }

// Refusal is an answer other than 200.
type Refusal struct {
	Status            int
	Instance, Errcode string
	Text              string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%d from instance %q: %s", r.Status, r.Instance, r.Text)
}

// ErrGone says that a request was sent and no whole answer came.
var ErrGone = errors.New("the connection ended without an answer")

// Exchange sends one request. Every status is an answer; an error is one of the connection, and an ErrGone.
func (c *Client) Exchange(ctx context.Context, method, path string, header http.Header, body []byte) (*Answer, error) {
	var in io.Reader
	if body != nil {
		in = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.Base+path, in)
	if err != nil {
		return nil, err
	}
	if c.Once {
		req.GetBody = nil
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err // without the URL
		}
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrGone, err)
	}
	return &Answer{res.StatusCode, res.Header, text}, nil
}

// Do sends in as JSON, if it is not nil, and reads the answer into out, if that is not nil. It gives the instance that
// answered. Any answer but 200 is a *Refusal.
func (c *Client) Do(ctx context.Context, method, path string, in, out any) (instance string, err error) {
	return c.DoWith(ctx, nil, method, path, in, out)
}

// DoWith is Do with a header.
func (c *Client) DoWith(ctx context.Context, header http.Header, method, path string, in, out any) (instance string, err error) {
	var body []byte
	if in != nil {
		if body, err = json.Marshal(in); err != nil {
			return "", err
		}
	}
	a, err := c.Exchange(ctx, method, path, header, body)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, path, err)
	}
	instance = a.Instance()
	if a.Status != http.StatusOK {
		r := &Refusal{Status: a.Status, Instance: instance, Text: string(a.Body[:min(len(a.Body), 300)])}
		var said struct {
			Errcode string `json:"errcode"`
		}
		if json.Unmarshal(a.Body, &said) == nil {
			r.Errcode = said.Errcode
		}
		return instance, fmt.Errorf("%s %s: %w", method, path, r)
	}
	if out == nil {
		return instance, nil
	}
	return instance, json.Unmarshal(a.Body, out)
}

// Session is what a registration or login gives.
type Session struct {
	UserID      string `json:"user_id"`
	AccessToken string `json:"access_token"`
	DeviceID    string `json:"device_id"`
}

// Register makes an account with the Password. The client's token stays as it is.
func (c *Client) Register(ctx context.Context, localpart string) (s Session, err error) {
	_, err = c.Do(ctx, "POST", API+"/register", map[string]any{
		"username": localpart, "password": Password, "auth": map[string]string{"type": "m.login.dummy"},
	}, &s)
	return s, err
}

// Login logs in with the Password and a new device. The header goes with the request.
func (c *Client) Login(ctx context.Context, localpart string, header http.Header) (s Session, err error) {
	_, err = c.DoWith(ctx, header, "POST", API+"/login", map[string]any{
		"type": "m.login.password", "identifier": map[string]string{"type": "m.id.user", "user": localpart}, "password": Password,
	}, &s)
	return s, err
}

// CreateRoom makes a room and gives its ID.
func (c *Client) CreateRoom(ctx context.Context, request any) (roomID string, err error) {
	var room struct {
		RoomID string `json:"room_id"`
	}
	_, err = c.Do(ctx, "POST", API+"/createRoom", request, &room)
	return room.RoomID, err
}

// Join joins a room.
func (c *Client) Join(ctx context.Context, roomID string) error {
	_, err := c.Do(ctx, "POST", API+"/join/"+url.PathEscape(roomID), struct{}{}, nil)
	return err
}

// Send sends a text message and gives its event ID.
func (c *Client) Send(ctx context.Context, roomID, txnID, text string) (eventID string, err error) {
	var sent struct {
		EventID string `json:"event_id"`
	}
	_, err = c.Do(ctx, "PUT", SendPath(roomID, txnID), Message(text), &sent)
	return sent.EventID, err
}

// SendPath is where a message is sent.
func SendPath(roomID, txnID string) string {
	return API + "/rooms/" + url.PathEscape(roomID) + "/send/m.room.message/" + url.PathEscape(txnID)
}

// Message is the content of a text message.
func Message(text string) map[string]string {
	return map[string]string{"msgtype": "m.text", "body": text}
}
