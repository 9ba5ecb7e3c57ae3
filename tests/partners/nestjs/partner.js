'use strict';
// One side of request-reply with NestJS. What it is told and what it tells: ../README.md.
require('reflect-metadata');
const { setTimeout: after } = require('node:timers/promises');
const readline = require('node:readline');
const net = require('node:net');
const { Module, Controller } = require('@nestjs/common');
const { NestFactory } = require('@nestjs/core');
const { ClientKafka, MessagePattern, Payload, RpcException, Transport } = require('@nestjs/microservices');
const { Observable, from, timeout } = require('rxjs');

const args = Object.fromEntries(process.argv.slice(2).map((arg) => arg.split(/=(.*)/s, 2)));
const tuned = args.tuned === 'yes';

function tell(event, more = {}) {
  const at = Math.round((performance.timeOrigin + performance.now()) * 1000);
  process.stdout.write(`${JSON.stringify({ at, event, ...more })}\n`);
}

// What people set who look for speed: kafkajs leaves Nagle's algorithm on, and awaits a commit after every batch.
function options() {
  const socketFactory = ({ host, port, onConnect }) =>
    net.connect({ host, port, noDelay: true }, onConnect);
  return {
    client: {
      clientId: args.name,
      brokers: args.bootstrap.split(','),
      logLevel: 1,
      ...(tuned ? { socketFactory } : {}),
    },
    consumer: { groupId: args.group },
    run: tuned ? { autoCommitInterval: 1000, partitionsConsumedConcurrently: 4 } : {},
    send: tuned ? { acks: 1 } : {},
  };
}

// The handlers: the first word of a request says which one, the rest is its argument.
function answer(text) {
  const [, verb, rest] = /^(\S+) ?(.*)$/s.exec(text);
  const items = (argument) => {
    const [, count, item] = /^(\d+) (.*)$/s.exec(argument);
    return Array.from({ length: Number(count) }, (_, i) => `${item}.${i}`);
  };
  switch (verb) {
    case 'echo':
      return rest;
    case 'upper':
      return rest.toUpperCase();
    case 'null':
      return null;
    case 'empty':
      return '';
    case 'error':
      throw new RpcException(rest);
    case 'stream':
      return from(items(rest));
    case 'trickle':
      return new Observable((to) => {
        (async () => {
          for (const item of items(rest)) {
            await after(5);
            to.next(item);
          }
          await after(20);
          to.complete();
        })();
      });
    case 'slow': {
      const [, delay, item] = /^(\d+) (.*)$/s.exec(rest);
      return after(Number(delay), item);
    }
    default:
      throw new RpcException(`no handler ${verb}`);
  }
}

async function respond(lines) {
  class Answers {
    handle(text) {
      if (args.quiet !== 'yes') tell('served', { value: String(text) });
      return answer(String(text));
    }
  }
  // Decorators by hand: there is no compiler here.
  Payload()(Answers.prototype, 'handle', 0);
  const descriptor = Object.getOwnPropertyDescriptor(Answers.prototype, 'handle');
  for (const topic of args.topics.split(',')) {
    MessagePattern(topic)(Answers.prototype, 'handle', descriptor);
  }
  Controller()(Answers);
  class App {}
  Module({ controllers: [Answers] })(App);
  const app = await NestFactory.createMicroservice(App, {
    transport: Transport.KAFKA,
    options: options(),
    logger: ['error', 'warn'],
  });
  await app.listen();
  tell('ready');
  for await (const _ of lines);
  await app.close();
}

// Ends as the observable does; kafkajs and NestJS know no deadline.
function call(client, value, limit) {
  return new Promise((resolve) => {
    const items = [];
    client
      .send(args.topics, value)
      .pipe(timeout({ first: limit, each: limit }))
      .subscribe({
        next: (item) => items.push(item === null ? null : String(item)),
        error: (error) => {
          const lost = error?.name === 'TimeoutError';
          const said = error?.message ?? error;
          resolve({ items, lost, error: typeof said === 'string' ? said : JSON.stringify(said) });
        },
        complete: () => resolve({ items, lost: false, error: null }),
      });
  });
}

async function ask(lines) {
  const client = new ClientKafka(options());
  client.subscribeToResponseOf(args.topics);
  if (args.join === 'told') {
    // Loading takes longer than what is to happen while it joins.
    tell('loaded');
    await new Promise((resolve) => lines.once('line', resolve));
  }
  const told = lines[Symbol.asyncIterator]();
  await client.connect();
  const { GROUP_JOIN, REBALANCING } = client.consumer.events;
  const home = () => tell('home', { partition: client.getConsumerAssignments()[`${args.topics}.reply`] ?? null });
  client.consumer.on(REBALANCING, () => tell('rebalancing'));
  client.consumer.on(GROUP_JOIN, () => setImmediate(home));
  home();
  tell('ready');
  for await (const line of told) {
    const [, verb, ...rest] = /^(call|bench) (\d+) (\d+) (\d+) (.*)$/s.exec(line);
    const [calls, concurrency, limit] = rest.slice(0, 3).map(Number);
    let next = 0;
    let lost = 0;
    const took = [];
    const begun = performance.now();
    const caller = async () => {
      while (next < calls) {
        const number = next++;
        const start = performance.now();
        const outcome = await call(client, `${rest[3]}-${number}`, limit);
        took.push(performance.now() - start);
        lost += outcome.lost ? 1 : 0;
        if (verb === 'call') tell('outcome', { call: number, ...outcome });
      }
    };
    await Promise.all(Array.from({ length: concurrency }, caller));
    const seconds = (performance.now() - begun) / 1000;
    took.sort((a, b) => a - b);
    const at = (part) => took[Math.min(took.length - 1, Math.floor(took.length * part))];
    tell('done', { calls, lost, seconds, p50: at(0.5), p99: at(0.99), max: at(1) });
  }
  await client.close();
}

const lines = readline.createInterface({ input: process.stdin });
(args.role === 'responder' ? respond : ask)(lines).then(
  () => {
    tell('closed');
    process.exit(0);
  },
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
