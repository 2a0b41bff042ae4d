export interface Task {
  readonly id: string;
  readonly title: string;
}

export type State = {
  board: { readonly tasks: readonly Task[]; readonly count: number };
  counter: number;
} & { [room: `room/${string}`]: { readonly members: readonly string[] } };

export type Payloads = {
  "board/task_added": { id: string; title: string };
  "board/counted": { by?: number };
  "room/joined": { name: string };
};

