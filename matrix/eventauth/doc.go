// Package eventauth decides whether an event is authorised: the authorisation rules of all room versions.
//
// It owns the rules, their numbers, power levels as the rules read them, and the selection of auth events. It never loads,
// stores or verifies anything: the caller brings the event and a view of the state to check it against, and has verified
// hashes and signatures before. The invariant: a verdict is a pure function of the event and of the entries that
// AuthTypes selects for it (and, where the room ID is made of it, the create event).
//
// A server checks an event several times against different states; see the numbered list of the specification.
//
// Spec: server-server-api#checks-performed-on-receipt-of-a-pdu, server-server-api#authorisation-rules
package eventauth
